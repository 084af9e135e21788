"""Steps, each on one batch of samples, which devices share and each of them parts further."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch

from edgewright.errors import UsageError
from edgewright.task import Batch, Split
from edgewright.training._config import Training
from edgewright.training._seeds import epoch_seed


@final
@dataclass(frozen=True)
class Share:
    """What one of the devices sees of the training samples: every ``world``-th of each batch.

    A last batch is left out that has fewer than two samples for each part that is run at a time,
    for batch norm cannot use one; a split smaller than a batch is used nevertheless.

    Attributes:
        split: All the training samples.
        config: Size of a batch, its parts, and whether inputs vary.
        seed: Of the order and the views.
        views: How many the epochs take in turn; None, and each has its own.
        rank: Which device this is.
        world: How many there are.
    """

    split: Split
    config: Training
    seed: int
    views: int | None = None
    rank: int = 0
    world: int = 1

    @property
    def steps(self) -> int:
        """In an epoch."""
        samples, size = len(self.split), self.config.batch_size
        left = samples % size
        is_left_out = samples > size and 0 < left < 2 * self.world * self.config.accumulate
        return math.ceil(samples / size) - is_left_out

    def samples(self, step: int) -> int:
        """How many a step has, on all devices together."""
        return min(self.config.batch_size, len(self.split) - step * self.config.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """This device's share of an epoch's batches, from a step on."""
        number = epoch_seed(self.seed, epoch)
        batches = torch.split(self.split.order(number), self.config.batch_size)
        share = torch.cat([whole[self.rank::self.world] for whole in batches])
        return self.split.select(share).batches(
            self.config.batch_size // self.world, start=start,
            view=self.config.augment.view(number if self.views is None else epoch % self.views))


def check_shares(config: Training, samples: int) -> None:
    """See that every device gets as much of each batch.

    Raises:
        UsageError: The batch size is no multiple of the devices, or there are too few samples.
    """
    devices = config.compute.devices
    if config.batch_size % devices:
        raise UsageError(f"a batch_size of {config.batch_size} cannot be shared by "
                         f"{devices} devices; give a multiple of {devices}")
    if samples < 2 * devices:
        raise UsageError(f"{samples} training samples are too few for {devices} devices; "
                         f"give {2 * devices} at least, or use fewer devices")


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """A batch in parts, in order, of sizes as equal as can be; none of them is empty."""
    if count == 1:
        return [batch]
    pieces = torch.arange(len(batch.targets)).tensor_split(min(count, len(batch.targets)))
    bounds = [slice(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]
    return [batch._replace(inputs=tuple(tensor[bound] for tensor in batch.inputs),
                           targets=batch.targets[bound], rows=batch.rows[bound])
            for bound in bounds]
