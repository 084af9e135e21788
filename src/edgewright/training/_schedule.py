"""Learning-rate schedules: pure functions of step and history, so that resuming needs no state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Protocol, final, runtime_checkable

from pydantic import Field

from edgewright.core import Settings
from edgewright.training._record import EpochRecord

_RISE: Final = 0.3  # Smith & Topin: share of the cycle that climbs
_START: Final = 1 / 25
_END: Final = 1e-5
_FALL: Final = 0.1  # at a plateau, as He et al. 2016


@dataclass(frozen=True)
class Position:
    """A place in a training run.

    Attributes:
        step: Counted from 0 over the whole run.
        steps_per_epoch: Steps of an epoch.
        epochs: Epochs of the whole run.
        history: The epochs before the step's.

    Example:
        >>> Position(step=3, steps_per_epoch=2, epochs=2).total_steps
        4
    """

    step: int
    steps_per_epoch: int
    epochs: int
    history: tuple[EpochRecord, ...] = ()

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch


@runtime_checkable
class LearningRateSchedule(Protocol):
    """How the learning rate goes over a run; implement it for a schedule of your own.

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
        """What the peak learning rate is multiplied with at a step; from the arguments alone."""
        ...


class WarmedUp(Settings, ABC):
    """A schedule that begins with a linear rise of the learning rate.

    Attributes:
        warmup_epochs: Length of the rise; 0 starts at the peak. A network that is trained from
            scratch with a large learning rate wants one or more.
    """

    warmup_epochs: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def factor(self, position: Position) -> float:
        """The rise, then what the schedule does."""
        warmup = self.warmup_epochs * position.steps_per_epoch
        if position.step < warmup:
            return min(1.0, (position.step + 1) / warmup)
        return self.factor_at_peak(position, warmup)

    @abstractmethod
    def factor_at_peak(self, position: Position, warmup: float) -> float:
        """The factor of a step after a rise of so many steps."""


@final
class CosineSchedule(WarmedUp):
    """Half a cosine from the peak to 0 (Loshchilov & Hutter 2017), step by step.

    The default: a good choice wherever the length of the training is known.

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
        """From 1 after the rise to 0 at the end."""
        return _cosine(1.0, 0.0, (position.step - warmup) / (position.total_steps - warmup))


@final
class ConstantSchedule(WarmedUp):
    """The peak learning rate all the way.

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
class PlateauSchedule(WarmedUp):
    """A tenth after every few epochs without a better validation score (as He et al. 2016).

    Attributes:
        wait_epochs: How many; only those count in which the objective's constraints have settled.

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
        """A tenth per plateau in the history."""
        del warmup
        return _FALL ** _count_plateaus(position.history, self.wait_epochs)


@final
class OneCycleSchedule(Settings):
    """Half a cosine up from a 25th of the peak, then one down to nearly 0 (Smith & Topin 2018).

    Of the paper it is the learning rate alone; the momentum stays.

    Attributes:
        rise_epochs: Length of the way up; None for three tenths of the run.

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
        progress, rise = position.step / position.total_steps, _RISE
        if self.rise_epochs is not None:
            rise = self.rise_epochs * position.steps_per_epoch / position.total_steps
        if progress < rise:
            return _cosine(_START, 1.0, progress / rise)
        return _cosine(1.0, _END, (progress - rise) / (1 - rise))


SCHEDULES: Final[dict[str, type[Settings]]] = {
    "cosine": CosineSchedule, "one_cycle": OneCycleSchedule, "constant": ConstantSchedule,
    "plateau": PlateauSchedule,
}


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _count_plateaus(history: tuple[EpochRecord, ...], epochs: int) -> int:
    """How often so many settled epochs in a row have brought no better score."""
    count, since, best = 0, 0, -math.inf
    for record in history:
        if not record.settled:
            continue
        since = 0 if record.score.merit > best else since + 1
        best = max(best, record.score.merit)
        if since == epochs:
            count, since = count + 1, 0
    return count
