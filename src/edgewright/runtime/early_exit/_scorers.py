"""Where the scores of a batch come from: the logits of each exit, or the segment's own output."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import ExitPolicy, ExitRule
from edgewright.errors import DataError
from edgewright.runtime.early_exit._policies import Scores, Streaks, confidence, exit_scores
from edgewright.runtime.engines import Arrays


@final
class LogitScorer:
    """Scores each exit in turn from its logits, by a policy; see `exit_scores`.

    Args:
        policy: Which score.

    Example:
        >>> outputs = (np.log(np.array([[0.75, 0.25]])),)
        >>> LogitScorer("margin").score(ExitRule(threshold=0.5), outputs).round(6).tolist()
        [0.5]
    """

    def __init__(self, policy: ExitPolicy) -> None:
        self._policy: ExitPolicy = policy
        self._streaks: Streaks | None = None

    def score(self, rule: ExitRule, outputs: Arrays) -> Scores:
        """Score the next exit, (N,), from what its segment returned."""
        logits = outputs[0]
        self._streaks = (Streaks.begin(logits) if self._streaks is None
                         else self._streaks.then(logits))
        return exit_scores(self._policy, rule, logits, self._streaks)

    def find_confidence(self, rule: ExitRule, outputs: Arrays, scores: Scores) -> Scores:
        """The confidence of an exit with these scores, (N,)."""
        return scores if self._policy == "confidence" else confidence(outputs[0], rule.temperature)

    def keep(self, rows: NDArray[Any]) -> None:
        """Go on with a subset of the samples."""
        if self._streaks is not None:
            self._streaks = self._streaks.of(rows)


@final
class FileScorer:
    """Takes the scores that segments return between their output and the features."""

    def score(self, rule: ExitRule, outputs: Arrays) -> Scores:
        """The score of an exit, (N,)."""
        del rule
        return find_scores(outputs)

    def find_confidence(self, rule: ExitRule, outputs: Arrays, scores: Scores) -> Scores:
        """The scores, which are confidences."""
        del rule, outputs
        return scores

    def keep(self, rows: NDArray[Any]) -> None:
        """Go on with a subset of the samples; nothing is kept of them."""


def find_scores(outputs: Arrays) -> Scores:
    """The scores among the outputs of a segment, as float64 like the thresholds.

    Raises:
        DataError: There are none, (N,).
    """
    if len(outputs) != 3 or outputs[1].shape != outputs[0].shape[:1]:
        raise DataError(f"an exit returned outputs of the shapes {[one.shape for one in outputs]}, "
                        "expected its output (N, ...), its score (N,) and features; the bundle's "
                        "manifest and its model disagree")
    return outputs[1].astype(np.float64)
