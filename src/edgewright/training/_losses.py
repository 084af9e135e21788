"""The losses of an epoch, as far as it has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import Tensor

from edgewright.errors import TrainingError

_STEPS_A_READING: Final = 20  # reading a loss off an accelerator waits for it


@dataclass(frozen=True)
class PartialEpoch:
    """How far an epoch has come; as it stands at its beginning.

    Attributes:
        steps: That are done.
        samples: That these had.
        loss_sum: Over these samples, in the order of the steps.
        seconds: That they took.
    """

    steps: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0


@final
class Losses:
    """Adds up an epoch's losses, and finds the first that is not finite.

    Args:
        so_far: The steps that an interrupted run had done.
        device: Where the losses are; off an accelerator they are read several at a time.
        diverged: The error for a step of the epoch, and what happened there.
    """

    def __init__(self, so_far: PartialEpoch, device: torch.device,
                 diverged: Callable[[int, str], TrainingError]) -> None:
        self._so_far = so_far
        self._every = 1 if device.type == "cpu" else _STEPS_A_READING
        self._diverged = diverged
        self._pending: list[tuple[Tensor, int]] = []
        self.latest = float("nan")

    def add(self, loss: Tensor, samples: int) -> None:
        """Take up the mean loss of one step."""
        self._pending.append((loss, samples))
        if len(self._pending) >= self._every:
            self.so_far()

    def so_far(self) -> PartialEpoch:
        """All steps there were; the time is that of before an interruption.

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
        """Over all samples."""
        epoch = self.so_far()
        return epoch.loss_sum / epoch.samples

    def _take(self, value: float, samples: int) -> None:
        epoch = self._so_far
        if value - value != 0:  # NaN, or an infinity
            raise self._diverged(epoch.steps, f"the loss is {value}")
        self.latest = value
        self._so_far = replace(epoch, steps=epoch.steps + 1, samples=epoch.samples + samples,
                               loss_sum=epoch.loss_sum + value * samples)
