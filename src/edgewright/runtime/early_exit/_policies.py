"""The scores that exit thresholds are compared with."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import ExitPolicy, ExitRule
from edgewright.errors import DataError

Scores = NDArray[np.float64]
_PLACES: Final = {"confidence": 1, "margin": 2, "entropy": 3}  # of policies in what a gate sees


@final
@dataclass(frozen=True)
class Streaks:
    """For how many consecutive exits each sample has had the same predicted class.

    Attributes:
        classes: The class predicted last, (N,).
        lengths: Number of consecutive exits that predicted it, at least 1, (N,).

    Example:
        >>> one = Streaks.begin(np.array([[2.0, 0.0], [2.0, 0.0]]))
        >>> one.then(np.array([[3.0, 0.0], [0.0, 3.0]])).lengths
        array([2, 1])
    """

    classes: NDArray[np.intp]
    lengths: NDArray[np.intp]

    @classmethod
    def begin(cls, logits: NDArray[Any]) -> Self:
        """After the first exit."""
        check_logits(logits)
        classes = logits.argmax(axis=1)
        return cls(classes, np.ones_like(classes))

    def then(self, logits: NDArray[Any]) -> Streaks:
        """After one more exit."""
        check_logits(logits)
        classes = logits.argmax(axis=1)
        return Streaks(classes, np.where(classes == self.classes, self.lengths + 1, 1))

    def of(self, rows: NDArray[Any]) -> Streaks:
        """The streaks of a subset of the samples."""
        return Streaks(self.classes[rows], self.lengths[rows])


def exit_scores(policy: ExitPolicy, rule: ExitRule, logits: NDArray[Any],
                streaks: Streaks) -> Scores:
    """Confidence of an exit in each sample; a sample leaves if it reaches the threshold.

    With p the softmax of the logits over the temperature, in descending order:

    - ``confidence``: ``p_1`` (Kaya, Hong & Dumitras 2019, "Shallow-deep networks");
    - ``margin``: ``p_1 - p_2``;
    - ``entropy``: ``1 - H(p) / log(classes)``, 1 if one class has all the probability
      (Teerapittayanon, McDanel & Kung 2016, "BranchyNet", with the sign of the entropy reversed);
    - ``patience``: number of consecutive exits, including this one, that predicted the same class
      (Zhou et al. 2020, "BERT loses patience");
    - ``gate``: probability from a learned gate over the first three, see `gate_inputs`.

    Args:
        policy: Which score.
        rule: Has the temperature, and the gate's weights.
        logits: (N, classes).
        streaks: Up to and including this exit.

    Returns:
        (N,) float64; NaN, which reaches no threshold, if a logit is NaN or the largest is infinite.

    Raises:
        DataError: The logits have another shape.

    Example:
        >>> logits = np.log(np.array([[0.7, 0.2, 0.1]]))
        >>> rule, streaks = ExitRule(threshold=0.5), Streaks.begin(logits)
        >>> [round(float(exit_scores(policy, rule, logits, streaks)[0]), 3)
        ...  for policy in ("confidence", "margin", "entropy", "patience")]
        [0.7, 0.5, 0.27, 1.0]
    """
    if policy == "patience":
        return np.where(np.isfinite(logits.max(axis=1)), streaks.lengths, np.nan)
    if policy == "confidence":
        return confidence(logits, rule.temperature)
    inputs = gate_inputs(logits, rule.temperature)
    if policy == "gate":
        found: Scores = 1 / (1 + np.exp(-inputs @ np.asarray(rule.gate)))
        return found
    return inputs[:, _PLACES[policy]]


def score_single_sample(policy: ExitPolicy, rule: ExitRule, logits: Sequence[float],
                        streak: int) -> float:
    """As `exit_scores` for one sample, in Python floats, with a third of the overhead.

    Args:
        policy: Which score.
        rule: Has the temperature, and the gate's weights.
        logits: Two classes or more.
        streak: Number of consecutive exits that predicted this class.

    Example:
        >>> round(score_single_sample("confidence", ExitRule(threshold=0.5), [1.0, 0.0], 1), 4)
        0.7311
    """
    return confidence_and_score(policy, rule, logits, streak)[1]


def confidence_and_score(policy: ExitPolicy, rule: ExitRule, logits: Sequence[float],
                         streak: int) -> tuple[float, float]:
    """The top softmax probability, and the policy's score, as `score_single_sample` has it."""
    top, temperature = max(logits), rule.temperature
    below = [(value - top) / temperature for value in logits]
    total = sum(map(math.exp, below))
    first = 1 / total
    if policy == "confidence" or math.isnan(total):
        return first, first
    if policy == "patience":
        return first, float(streak)
    second = math.exp(sorted(below)[-2]) / total
    entropy = 0.0 if policy == "margin" else math.log(total) - sum(
        part * math.exp(part) for part in below if part > -math.inf) / total
    inputs = _seen(first, second, entropy, math.log(len(logits)))
    if policy != "gate":
        return first, inputs[_PLACES[policy]]
    asked = sum(map(operator.mul, rule.gate, inputs))
    return first, 1 / (1 + math.exp(-asked)) if asked > -700 else 0.0


def gate_inputs(logits: NDArray[Any], temperature: float) -> Scores:
    """Inputs of a learned gate: 1, then the confidence, margin and entropy scores, (N, 4)."""
    check_logits(logits)
    scaled = _below_top(logits) / temperature
    total = np.exp(scaled).sum(axis=1, keepdims=True)
    probabilities = np.exp(scaled) / total
    logs = np.where(scaled > -np.inf, scaled, 0.0) - np.log(total)   # 0 log 0 counts as 0
    entropy = -(probabilities * logs).sum(axis=1)
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    constant, *scores = _seen(first, second, entropy, np.log(logits.shape[1]))
    return np.stack([np.full(len(logits), constant), *scores], axis=1)


def _seen(first: Any, second: Any, entropy: Any, most_entropy: float) -> tuple[Any, Any, Any, Any]:
    """Inputs of a gate, and of the other policies; for one sample, or for many as arrays.

    Args:
        first: The top softmax probability.
        second: The next one.
        entropy: Of the softmax, in nats.
        most_entropy: Where all classes are alike.
    """
    return 1.0, first, first - second, 1 - entropy / most_entropy


def confidence(logits: NDArray[Any], temperature: float = 1.0) -> Scores:
    """Top softmax probability of each row of logits (N, classes) over a temperature, (N,)."""
    check_logits(logits)
    found: Scores = 1.0 / np.exp(_below_top(logits) / temperature).sum(axis=1)
    return found


def _below_top(logits: NDArray[Any]) -> Scores:
    """Each logit minus its row's largest; NaN if that is infinite."""
    below = logits.astype(np.float64)
    top = below.max(axis=1, keepdims=True)
    return below - np.where(np.isfinite(top), top, np.nan)


def check_logits(logits: NDArray[Any]) -> None:
    """Check that an exit's output is logits.

    Raises:
        DataError: It is not (N, classes) with two classes or more.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(f"an exit returned logits of shape {logits.shape}, expected (N, classes) "
                        "with two classes or more; for another goal the segment has a score of "
                        "its own, which the manifest names")
