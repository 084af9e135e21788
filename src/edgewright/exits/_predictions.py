"""How good and how sure each exit is on a split, and where its samples leave."""

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
    """Quality and confidence of each exit on each sample.

    Attributes:
        scores: Confidence scores of each early exit, (early exits, N).
        quality: How good the decisions of each exit are, the last one included, (exits, N), 0 to 1:
            1 for a right class and 0 for a wrong one; see `edgewright.goals.Goal.exit_quality`.
        measure: What the quality is, in words.

    Example:
        >>> predictions = ExitPredictions(scores=np.array([[0.9, 0.2]]),
        ...                               quality=np.array([[1.0, 0.25], [1.0, 1.0]]))
        >>> predictions.left_at([0.5]).tolist()
        [0, 1]
        >>> predictions.costs([0.1]).tolist()
        [0.0, 0.75]
    """

    scores: Floats
    quality: Floats
    measure: str = "accuracy"

    def of(self, rows: NDArray[Any]) -> Self:
        """The predictions for a subset of the samples."""
        return type(self)(self.scores[:, rows], self.quality[:, rows], self.measure)

    def left_at(self, thresholds: Thresholds) -> ExitIndices:
        """The exit each sample leaves at, (N,); None or infinity is an exit never taken."""
        return find_exits(self.scores, thresholds)

    def quality_at(self, thresholds: Thresholds) -> Floats:
        """Quality of each sample at the exit where it leaves, (N,)."""
        left_at = self.left_at(thresholds)
        found: Floats = self.quality[left_at, np.arange(len(left_at))]
        return found

    def costs(self, thresholds: Thresholds) -> Floats:
        """What leaving costs each sample: quality of the last exit minus its own, -1 to 1, (N,).

        With one decision per sample, 1 if a right one is lost and -1 if one is gained.
        """
        found: Floats = self.quality[-1] - self.quality_at(thresholds)
        return found


def find_exits(scores: Floats, thresholds: Thresholds) -> ExitIndices:
    """The exit each sample leaves at, (N,); None or infinity is an exit never taken.

    Args:
        scores: Of each early exit, (early exits, N).
        thresholds: One per early exit.
    """
    left_at = np.full(scores.shape[1], len(scores))
    for index in reversed(range(len(scores))):
        threshold = thresholds[index]
        if threshold is not None:
            left_at[scores[index] >= threshold] = index
    return left_at


def score_exits(logits: Logits, rules: Sequence[ExitRule], policy: ExitPolicy) -> Floats:
    """Scores of each early exit by its rule, from logits, (early exits, N).

    Args:
        logits: One array (N, classes) per exit, including the last.
        rules: One per early exit; their thresholds are ignored.
        policy: The confidence measure.
    """
    scores = np.empty((len(rules), len(logits[0])))
    streaks = Streaks.begin(logits[0])
    for index, rule in enumerate(rules):
        streaks = streaks.then(logits[index]) if index else streaks
        scores[index] = exit_scores(policy, rule, logits[index], streaks)
    return scores


def predict_exits(logits: Logits, targets: ClassIndices, rules: Sequence[ExitRule],
                  policy: ExitPolicy) -> ExitPredictions:
    """Compute whether each exit of a classifier is right, and its confidence by its rule.

    Args:
        logits: One array (N, classes) per exit, including the last.
        targets: Class indices (N,).
        rules: One per early exit; their thresholds are ignored.
        policy: The confidence measure.

    Example:
        >>> sure, unsure = np.array([[9.0, 0.0]]), np.array([[0.0, 0.1]])
        >>> rules = [ExitRule(threshold=0.9)]
        >>> found = predict_exits([sure, unsure], np.array([0]), rules, "margin")
        >>> found.scores.round(3).tolist(), found.quality.tolist()
        ([[1.0]], [[1.0], [0.0]])
    """
    right = np.stack([values.argmax(axis=1) == targets for values in logits])
    return ExitPredictions(score_exits(logits, rules, policy), right.astype(np.float64))


def compute_exit_curve(predictions: ExitPredictions, steps: Iterable[Sequence[float | None]],
                       segment_macs: Sequence[int]) -> tuple[CurvePoint, ...]:
    """Mean quality and cost for each threshold vector.

    Args:
        predictions: Predictions on the samples to evaluate.
        steps: The early exits' thresholds, one vector per point.
        segment_macs: Multiply-accumulates of each segment.

    Example:
        >>> predictions = ExitPredictions(scores=np.array([[0.9, 0.2]]),
        ...                               quality=np.array([[1.0, 0.0], [1.0, 1.0]]))
        >>> curve = compute_exit_curve(predictions, [[1], [0]], [10, 90])
        >>> [(point.macs, point.accuracy) for point in curve]
        [(100.0, 1.0), (10.0, 0.5)]
    """
    macs = np.cumsum(segment_macs)
    return tuple(CurvePoint(thresholds=tuple(thresholds),
                            macs=float(macs[predictions.left_at(thresholds)].mean()),
                            accuracy=float(predictions.quality_at(thresholds).mean()))
                 for thresholds in steps)
