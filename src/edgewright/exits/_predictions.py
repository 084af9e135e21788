"""Per-exit correctness and confidence on a split, and where its samples leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgewright.core import CurvePoint, ExitPolicy, ExitRule
from edgewright.runtime import Streaks, exit_scores

Logits = Sequence[NDArray[Any]]
ClassIndices = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
ExitIndices = NDArray[np.int64]
Thresholds = Sequence[float | None] | Floats


@dataclass(frozen=True)
class ExitPredictions:
    """Correctness and confidence of each exit on each sample.

    Attributes:
        scores: Confidence scores of each early exit, (early exits, N).
        correct: Whether each exit, including the last, is correct, (exits, N) bool.

    Example:
        >>> predictions = ExitPredictions(scores=np.array([[0.9, 0.2]]),
        ...                               correct=np.array([[True, False], [True, True]]))
        >>> predictions.left_at([0.5]).tolist()
        [0, 1]
        >>> predictions.losses([0.1]).tolist()
        [0, 1]
    """

    scores: Floats
    correct: NDArray[np.bool_]

    def of(self, rows: NDArray[Any]) -> Self:
        """The predictions for a subset of the samples."""
        return type(self)(self.scores[:, rows], self.correct[:, rows])

    def left_at(self, thresholds: Thresholds) -> ExitIndices:
        """The exit each sample leaves at, (N,); None or infinity is an exit never taken."""
        left_at = np.full(self.correct.shape[1], len(self.scores))
        for index in reversed(range(len(self.scores))):
            threshold = thresholds[index]
            if threshold is not None:
                left_at[self.scores[index] >= threshold] = index
        return left_at

    def hits(self, thresholds: Thresholds) -> NDArray[np.bool_]:
        """Whether each sample's prediction is correct at the exit where it leaves, (N,)."""
        left_at = self.left_at(thresholds)
        found: NDArray[np.bool_] = self.correct[left_at, np.arange(len(left_at))]
        return found

    def losses(self, thresholds: Thresholds) -> NDArray[np.int64]:
        """Loss per sample: 1 if a correct prediction is lost, -1 if one is gained, else 0, (N,)."""
        found: NDArray[np.int64] = self.correct[-1].astype(np.int64) - self.hits(thresholds)
        return found


def predict_exits(logits: Logits, targets: ClassIndices, rules: Sequence[ExitRule],
                  policy: ExitPolicy) -> ExitPredictions:
    """Compute the correctness of each exit, and its confidence by its rule.

    Args:
        logits: One array (N, classes) per exit, including the last.
        targets: Class indices (N,).
        rules: One per early exit; their thresholds are ignored.
        policy: The confidence measure.

    Example:
        >>> sure, unsure = np.array([[9.0, 0.0]]), np.array([[0.0, 0.1]])
        >>> rules = [ExitRule(threshold=0.9)]
        >>> found = predict_exits([sure, unsure], np.array([0]), rules, "margin")
        >>> found.scores.round(3).tolist(), found.correct.tolist()
        ([[1.0]], [[True], [False]])
    """
    scores = np.empty((len(rules), len(targets)))
    streaks = Streaks.begin(logits[0])
    for index, rule in enumerate(rules):
        streaks = streaks.then(logits[index]) if index else streaks
        scores[index] = exit_scores(policy, rule, logits[index], streaks)
    correct = np.stack([values.argmax(axis=1) == targets for values in logits])
    return ExitPredictions(scores, correct)


def compute_exit_curve(predictions: ExitPredictions, steps: Iterable[Sequence[float | None]],
                       segment_macs: Sequence[int]) -> tuple[CurvePoint, ...]:
    """Accuracy and cost for each threshold vector.

    Args:
        predictions: Predictions on the samples to evaluate.
        steps: The early exits' thresholds, one vector per point.
        segment_macs: Multiply-accumulates of each segment.

    Example:
        >>> predictions = ExitPredictions(scores=np.array([[0.9, 0.2]]),
        ...                               correct=np.array([[True, False], [True, True]]))
        >>> curve = compute_exit_curve(predictions, [[1], [0]], [10, 90])
        >>> [(point.macs, point.accuracy) for point in curve]
        [(100.0, 1.0), (10.0, 0.5)]
    """
    macs = np.cumsum(segment_macs)
    return tuple(CurvePoint(thresholds=tuple(thresholds),
                            macs=float(macs[predictions.left_at(thresholds)].mean()),
                            accuracy=float(predictions.hits(thresholds).mean()))
                 for thresholds in steps)
