"""What every exit of a file makes of a split, and where its samples leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgewright.core import CurvePoint, ExitPolicy, ExitRule
from edgewright.runtime import Streaks, exit_scores

Logits = Sequence[NDArray[Any]]
Targets = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Exits = NDArray[np.int64]
Thresholds = Sequence[float | None] | Floats


@dataclass(frozen=True)
class Answers:
    """What every exit made of every sample.

    Attributes:
        scores: How sure each early exit is, (early exits, N).
        correct: Whether each exit, the last included, is right, (exits, N) bool.

    Example:
        >>> answers = Answers(np.array([[0.9, 0.2]]), np.array([[True, False], [True, True]]))
        >>> answers.left_at([0.5]).tolist()
        [0, 1]
        >>> answers.losses([0.1]).tolist()
        [0, 1]
    """

    scores: Floats
    correct: NDArray[np.bool_]

    def of(self, rows: NDArray[Any]) -> Self:
        """Those of some of the samples."""
        return type(self)(self.scores[:, rows], self.correct[:, rows])

    def left_at(self, thresholds: Thresholds) -> Exits:
        """The exit each sample leaves at, (N,); None or infinity is an exit never taken."""
        left_at = np.full(self.correct.shape[1], len(self.scores))
        for index in reversed(range(len(self.scores))):
            threshold = thresholds[index]
            if threshold is not None:
                left_at[self.scores[index] >= threshold] = index
        return left_at

    def hits(self, thresholds: Thresholds) -> NDArray[np.bool_]:
        """Whether each sample's answer is right where it leaves, (N,)."""
        left_at = self.left_at(thresholds)
        found: NDArray[np.bool_] = self.correct[left_at, np.arange(len(left_at))]
        return found

    def losses(self, thresholds: Thresholds) -> Exits:
        """What leaving costs each sample: 1 a right answer lost, -1 one gained, or 0, (N,)."""
        found: Exits = self.correct[-1].astype(np.int64) - self.hits(thresholds)
        return found


def answers_of(logits: Logits, targets: Targets, rules: Sequence[ExitRule],
               policy: ExitPolicy) -> Answers:
    """What every exit made of every sample, and how sure it was by its rule.

    Args:
        logits: One array (N, classes) per exit, the last included.
        targets: Class indices (N,).
        rules: One per early exit; their thresholds do not matter.
        policy: What the scores are.

    Example:
        >>> sure, unsure = np.array([[9.0, 0.0]]), np.array([[0.0, 0.1]])
        >>> found = answers_of([sure, unsure], np.array([0]), [ExitRule(threshold=0.9)], "margin")
        >>> found.scores.round(3).tolist(), found.correct.tolist()
        ([[1.0]], [[True], [False]])
    """
    scores = np.empty((len(rules), len(targets)))
    streaks = Streaks.begin(logits[0])
    for index, rule in enumerate(rules):
        streaks = streaks.then(logits[index]) if index else streaks
        scores[index] = exit_scores(policy, rule, logits[index], streaks)
    return Answers(scores, np.stack([values.argmax(axis=1) == targets for values in logits]))


def exit_curve(answers: Answers, steps: Iterable[Sequence[float | None]],
               segment_macs: Sequence[int]) -> tuple[CurvePoint, ...]:
    """What leaving early costs and is worth with each of these thresholds.

    Args:
        answers: On the samples to judge by.
        steps: The early exits' thresholds, once a point.
        segment_macs: Multiply-accumulates of each segment.

    Example:
        >>> answers = Answers(np.array([[0.9, 0.2]]), np.array([[True, False], [True, True]]))
        >>> [(point.macs, point.accuracy) for point in exit_curve(answers, [[1], [0]], [10, 90])]
        [(100.0, 1.0), (10.0, 0.5)]
    """
    macs = np.cumsum(segment_macs)
    return tuple(CurvePoint(thresholds=tuple(thresholds),
                            macs=float(macs[answers.left_at(thresholds)].mean()),
                            accuracy=float(answers.hits(thresholds).mean()))
                 for thresholds in steps)
