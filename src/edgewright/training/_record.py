"""The record of a training run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edgewright.training._score import Score

_ACCURACY: Final = "accuracy"


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: Counted from 1.
        loss: Mean of the objective over the training samples.
        score: Validation score, as the objective defines it.
        lr: Learning rate of the last step.
        seconds: Time for training and validation.
        settled: Whether the weights may be kept; False while a constraint is still tightening.
    """

    epoch: int
    loss: float
    score: Score
    lr: float
    seconds: float
    settled: bool = True

    @property
    def val_accuracy(self) -> float:
        """Validation accuracy of the last output; NaN if the score is another one."""
        return _accuracy(self.score)


@dataclass(frozen=True)
class TrainingRecord:
    """One training run.

    Attributes:
        history: Every epoch, in order.
        notes: Notes for the user, such as about a checkpoint that was not used.
        start: Score of the initial weights; None if they could not be the result, because a
            constraint did not hold for them yet.
        keeps_last: Whether the last epoch is kept, whatever the scores are.

    Example:
        >>> scores = [Score("accuracy", value, unit="fraction") for value in (0.5, 0.8)]
        >>> epochs = (EpochRecord(1, 0.9, scores[0], 0.1, 2.0),
        ...           EpochRecord(2, 0.7, scores[1], 0.1, 2.0))
        >>> record = TrainingRecord(epochs, stopped_early=False)
        >>> record.kept_epoch, record.val_accuracy, record.seconds
        (2, 0.8, 4.0)
        >>> better = Score("accuracy", 0.9, unit="fraction")
        >>> TrainingRecord(epochs, stopped_early=False, start=better).kept_epoch
        0
    """

    history: tuple[EpochRecord, ...]
    stopped_early: bool
    notes: tuple[str, ...] = ()
    start: Score | None = None
    keeps_last: bool = False

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights were kept, counted from 1.

        It is the best of the settled epochs, the latest if tied, unless the last one is kept; 0 if
        every epoch was worse than the initial weights.
        """
        settled = [record for record in self.history if record.settled] or self.history
        if self.keeps_last:
            return settled[-1].epoch if settled else 0
        scores = [(record.score.merit, record.epoch) for record in settled]
        start = [] if self.start is None else [(self.start.merit, 0)]
        return max([*start, *scores], default=(0.0, 0))[1]

    @property
    def score(self) -> Score:
        """Validation score of the weights that were kept."""
        best = self.kept_epoch
        if self.start is not None and best == 0:
            return self.start
        return self.history[best - 1].score

    @property
    def val_accuracy(self) -> float:
        """Validation accuracy of the weights that were kept; NaN if the score is another one."""
        return _accuracy(self.score)

    @property
    def seconds(self) -> float:
        """Time over all epochs, including those before an interruption."""
        return sum(record.seconds for record in self.history)


def epochs_without_improvement(history: Iterable[EpochRecord]) -> int:
    """The number of settled epochs since the best score was first reached."""
    merits = [record.score.merit for record in history if record.settled]
    return len(merits) - 1 - merits.index(max(merits)) if merits else 0


def _accuracy(score: Score) -> float:
    return score.value if score.name == _ACCURACY else math.nan
