"""Split each batch over the devices and into parts for gradient accumulation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch

from edgewright.errors import UsageError
from edgewright.task import Batch, Split, select_rows
from edgewright.training._config import Training
from edgewright.training._seeds import epoch_seed


@final
@dataclass(frozen=True)
class DataShard:
    """The training samples of one device: every ``world``-th sample of each batch.

    A last batch with fewer than two samples per part is skipped, because batch norm cannot process
    a single sample; a split smaller than one batch is used nevertheless.

    Attributes:
        split: All training samples.
        config: Batch size, accumulation, augmentation.
        seed: Seed of the order and of the views.
        views: Number of stored views that the epochs cycle through; None gives each epoch its own.
        rank: Index of this device.
        world: Number of devices.
    """

    split: Split
    config: Training
    seed: int
    views: int | None = None
    rank: int = 0
    world: int = 1

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        samples, size = len(self.split), self.config.batch_size
        left = samples % size
        is_left_out = samples > size and 0 < left < 2 * self.world * self.config.accumulate
        return math.ceil(samples / size) - is_left_out

    def samples(self, step: int) -> int:
        """Number of samples of a step, over all devices."""
        return min(self.config.batch_size, len(self.split) - step * self.config.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """This device's shard of an epoch's batches, starting at a step."""
        number = epoch_seed(self.seed, epoch)
        batches = torch.split(self.split.order(number), self.config.batch_size)
        shard = torch.cat([whole[self.rank::self.world] for whole in batches])
        return self.split.select(shard).batches(
            self.config.batch_size // self.world, start=start,
            view=self.config.augment.view(number if self.views is None else epoch % self.views))


def check_sharding(config: Training, samples: int) -> None:
    """Check that each batch can be split evenly over the devices.

    Raises:
        UsageError: The batch size is not a multiple of the number of devices, or there are too few
            samples.
    """
    devices = config.compute.devices
    if config.batch_size % devices:
        raise UsageError(f"a batch_size of {config.batch_size} cannot be split evenly over "
                         f"{devices} devices; use a multiple of {devices}")
    if samples < 2 * devices:
        raise UsageError(f"{samples} training samples are too few for {devices} devices; "
                         f"give at least {2 * devices}, or use fewer devices")


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into non-empty parts of nearly equal size, in order."""
    if count == 1:
        return [batch]
    pieces = torch.arange(batch.size).tensor_split(min(count, batch.size))
    bounds = [slice(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]
    return [batch._replace(inputs=tuple(tensor[bound] for tensor in batch.inputs),
                           targets=select_rows(batch.targets, bound), rows=batch.rows[bound])
            for bound in bounds]
