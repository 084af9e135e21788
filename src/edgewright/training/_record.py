"""What a training run leaves behind, beside the weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: Counted from 1.
        loss: Mean of the objective over the training samples.
        val_accuracy: Of the last output, on the validation split.
        lr: Learning rate of the last step.
        seconds: Training and validation together.
        settled: Whether the weights may be kept: not where a constraint was still tightening.
    """

    epoch: int
    loss: float
    val_accuracy: float
    lr: float
    seconds: float
    settled: bool = True


@dataclass(frozen=True)
class TrainingRecord:
    """One training run.

    Attributes:
        history: Every epoch, in order.
        notes: What a reader should know, such as a checkpoint that was not used.

    Example:
        >>> epochs = (EpochRecord(1, 0.9, 0.5, 0.1, 2.0), EpochRecord(2, 0.7, 0.8, 0.1, 2.0))
        >>> record = TrainingRecord(epochs, stopped_early=False)
        >>> record.best_epoch, record.val_accuracy, record.seconds
        (2, 0.8, 4.0)
    """

    history: tuple[EpochRecord, ...]
    stopped_early: bool
    notes: tuple[str, ...] = ()

    @property
    def best_epoch(self) -> int:
        """The settled epoch whose weights were kept, counted from 1; the latest of equals."""
        settled = [record for record in self.history if record.settled] or self.history
        return max(settled, key=lambda record: (record.val_accuracy, record.epoch)).epoch

    @property
    def val_accuracy(self) -> float:
        """Validation accuracy of the weights that were kept."""
        return self.history[self.best_epoch - 1].val_accuracy

    @property
    def seconds(self) -> float:
        """Time over all epochs, those before an interruption included."""
        return sum(record.seconds for record in self.history)


def epochs_without_gain(history: tuple[EpochRecord, ...]) -> int:
    """Settled epochs since the best validation accuracy was first reached."""
    accuracies = [record.val_accuracy for record in history if record.settled]
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) if accuracies else 0
