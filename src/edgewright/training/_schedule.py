"""Learning-rate schedules: pure functions of step and history, so that resuming needs no state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Protocol, final, runtime_checkable

from pydantic import Field

from edgewright.core import Choice, Settings
from edgewright.training._record import EpochRecord

_WARMUP_SHARE: Final = 0.3  # Smith & Topin: rising share of the cycle
_INITIAL_FACTOR: Final = 1 / 25
_FINAL_FACTOR: Final = 1e-5
_PLATEAU_FACTOR: Final = 0.1  # per plateau, as in He et al. 2016


@dataclass(frozen=True)
class Position:
    """A position in a training run.

    Attributes:
        step: Index of the step, counted from 0 over the whole run.
        steps_per_epoch: Steps per epoch.
        epochs: Epochs of the whole run; None if only its time is limited.
        history: The epochs before this step's epoch.
        elapsed: Share of the time for steps that is used, from 0 to 1; None if there is no limit.

    Example:
        >>> Position(step=3, steps_per_epoch=2, epochs=2).total_steps
        4
        >>> Position(step=30, steps_per_epoch=2, epochs=None, elapsed=0.25).total_steps
        120.0
    """

    step: int
    steps_per_epoch: int
    epochs: int | None
    history: tuple[EpochRecord, ...] = ()
    elapsed: float | None = None

    @property
    def total_steps(self) -> float:
        """Number of steps of the whole run.

        If its time is limited, this is the number at the speed so far, so that ``step`` divided by
        it is the share of the time that is used. At step 0 the speed is unknown: one epoch.
        """
        most = math.inf if self.epochs is None else self.epochs * self.steps_per_epoch
        if self.elapsed is None:
            return most
        expected = self.step / self.elapsed if self.elapsed else math.inf
        return min(most, max(self.step + 1, expected if self.step else self.steps_per_epoch))


@runtime_checkable
class LearningRateSchedule(Protocol):
    """The learning rate over a run; implement this protocol for your own schedule.

    Attributes:
        name: Identifies the schedule *and its settings* in a checkpoint and a saved recipe.

    Example:
        >>> class Halved:
        ...     name = "halved every epoch"
        ...     def factor(self, position):
        ...         return 0.5 ** (position.step // position.steps_per_epoch)
        >>> isinstance(Halved(), LearningRateSchedule)
        True
    """

    @property
    def name(self) -> str:
        """Identifies the schedule and its settings."""
        ...

    def factor(self, position: Position) -> float:
        """The factor on the peak learning rate at a step; must depend on the position only."""
        ...


class WarmupSchedule(Settings, ABC):
    """A schedule that begins with a linear warm-up of the learning rate.

    Attributes:
        warmup_epochs: Length of the warm-up; 0 starts at the peak. Use one or more epochs to train
            a network from scratch with a large learning rate.
    """

    warmup_epochs: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def factor(self, position: Position) -> float:
        """The warm-up, then the schedule itself."""
        warmup = self.warmup_epochs * position.steps_per_epoch
        if position.step < warmup:
            return min(1.0, (position.step + 1) / warmup)
        return self.factor_at_peak(position, warmup)

    @abstractmethod
    def factor_at_peak(self, position: Position, warmup: float) -> float:
        """The factor at a step after a warm-up of ``warmup`` steps."""


@final
class CosineSchedule(WarmupSchedule):
    """Cosine decay from the peak to 0, updated every step (Loshchilov & Hutter 2017).

    The default, and a good choice whenever the length of the training is fixed.

    Example:
        >>> cosine = CosineSchedule()
        >>> [round(cosine.factor(Position(step, 2, 2)), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """

    @property
    def name(self) -> str:
        """``cosine``."""
        return "cosine"

    def factor_at_peak(self, position: Position, warmup: float) -> float:
        """From 1 after the warm-up to 0 at the end."""
        return _cosine(1.0, 0.0, (position.step - warmup) / (position.total_steps - warmup))


@final
class ConstantSchedule(WarmupSchedule):
    """The peak learning rate throughout; for short fine-tuning.

    Example:
        >>> ConstantSchedule(warmup_epochs=1).factor(Position(0, 4, 2))
        0.25
    """

    @property
    def name(self) -> str:
        """``constant``."""
        return "constant"

    def factor_at_peak(self, position: Position, warmup: float) -> float:
        """1."""
        del position, warmup
        return 1.0


@final
class PlateauSchedule(WarmupSchedule):
    """Divide by ten after every few epochs without a better validation score (He et al. 2016).

    Use it together with ``patience`` if the necessary length of the training is unknown.

    Attributes:
        wait_epochs: Number of epochs to wait; only epochs in which the objective's constraints have
            settled count.

    Example:
        >>> PlateauSchedule(wait_epochs=2).factor(Position(0, 4, 2))
        1.0
    """

    wait_epochs: int = Field(default=5, ge=1)

    @property
    def name(self) -> str:
        """``plateau``."""
        return "plateau"

    def factor_at_peak(self, position: Position, warmup: float) -> float:
        """0.1 to the power of the number of plateaus in the history."""
        del warmup
        return _PLATEAU_FACTOR ** _count_plateaus(position.history, self.wait_epochs)


@final
class OneCycleSchedule(Settings):
    """Cosine warm-up from 1/25 of the peak, then cosine decay to nearly 0 (Smith & Topin 2018).

    Only the paper's learning rate is implemented; the momentum stays constant.

    Attributes:
        rise_epochs: Length of the warm-up; None for 30 % of the run.

    Example:
        >>> round(OneCycleSchedule().factor(Position(0, 10, 10)), 3)
        0.04
    """

    rise_epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def name(self) -> str:
        """``one_cycle``."""
        return "one_cycle"

    def factor(self, position: Position) -> float:
        """Up, then down."""
        progress, rise = position.step / position.total_steps, _WARMUP_SHARE
        if self.rise_epochs is not None:
            rise = self.rise_epochs * position.steps_per_epoch / position.total_steps
        if progress < rise:
            return _cosine(_INITIAL_FACTOR, 1.0, progress / rise)
        return _cosine(1.0, _FINAL_FACTOR, (progress - rise) / (1 - rise))


SCHEDULES: Final = Choice(
    cosine=CosineSchedule, one_cycle=OneCycleSchedule, constant=ConstantSchedule,
    plateau=PlateauSchedule, protocol=LearningRateSchedule)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _count_plateaus(history: tuple[EpochRecord, ...], epochs: int) -> int:
    """How often ``epochs`` settled epochs in a row did not improve the score."""
    count, since, best = 0, 0, -math.inf
    for record in history:
        if not record.settled:
            continue
        since = 0 if record.score.merit > best else since + 1
        best = max(best, record.score.merit)
        if since == epochs:
            count, since = count + 1, 0
    return count
