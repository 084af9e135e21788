"""The running loss of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import Tensor

from edgewright.errors import TrainingError

_STEPS_PER_READ: Final = 20  # reading a loss synchronizes with the accelerator


@dataclass(frozen=True)
class PartialEpoch:
    """Progress within an epoch; the defaults are those of its beginning.

    Attributes:
        steps: Completed steps.
        samples: Samples in these steps.
        loss_sum: Sum of the loss over these samples, in the order of the steps.
        seconds: Time that they took.
    """

    steps: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0


@final
class Losses:
    """Adds up an epoch's losses, and finds the first that is not finite.

    Args:
        so_far: The steps that an interrupted run had completed.
        device: Device of the losses; on an accelerator they are read several at a time.
        diverged: Makes the error for a step of the epoch from a description.
    """

    def __init__(self, so_far: PartialEpoch, device: torch.device,
                 diverged: Callable[[int, str], TrainingError]) -> None:
        self._so_far = so_far
        self._every = 1 if device.type == "cpu" else _STEPS_PER_READ
        self._diverged = diverged
        self._pending: list[tuple[Tensor, int]] = []
        self.latest = float("nan")

    def add(self, loss: Tensor, samples: int) -> None:
        """Add the mean loss of one step."""
        self._pending.append((loss, samples))
        if len(self._pending) >= self._every:
            self.so_far()

    def so_far(self) -> PartialEpoch:
        """Progress over all steps added; the time covers only those before an interruption.

        Raises:
            TrainingError: A loss is not finite.
        """
        if self._pending:
            values = torch.stack([loss for loss, _ in self._pending]).float().tolist()
            for value, (_, samples) in zip(values, self._pending, strict=True):
                self._take(value, samples)
            self._pending.clear()
        return self._so_far

    def mean(self) -> float:
        """The mean loss over all samples."""
        epoch = self.so_far()
        return epoch.loss_sum / epoch.samples

    def _take(self, value: float, samples: int) -> None:
        epoch = self._so_far
        if value - value != 0:  # NaN, or an infinity
            raise self._diverged(epoch.steps, f"the loss is {value}")
        self.latest = value
        self._so_far = replace(epoch, steps=epoch.steps + 1, samples=epoch.samples + samples,
                               loss_sum=epoch.loss_sum + value * samples)
