"""How sure an exit is of its answer: the scores that thresholds are held against."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import ExitRule, Policy
from edgewright.errors import DataError

Scores = NDArray[np.float64]
_PLACES: Final = {"confidence": 1, "margin": 2, "entropy": 3}  # of policies in what a gate sees


@final
@dataclass(frozen=True)
class Streaks:
    """For how many exits in a row each sample has been given the same class.

    Attributes:
        classes: Named last, (N,).
        lengths: Exits in a row that named it, 1 at least, (N,).

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
        """After one exit more."""
        check_logits(logits)
        classes = logits.argmax(axis=1)
        return Streaks(classes, np.where(classes == self.classes, self.lengths + 1, 1))

    def of(self, rows: NDArray[Any]) -> Streaks:
        """Those of some of the samples."""
        return Streaks(self.classes[rows], self.lengths[rows])


def exit_scores(policy: Policy, rule: ExitRule, logits: NDArray[Any], streaks: Streaks) -> Scores:
    """How sure an exit is, higher for surer; a sample leaves where this reaches the threshold.

    With p the softmax of the logits over the temperature, largest first:

    - ``confidence``: ``p_1`` (Kaya, Hong & Dumitras 2019, "Shallow-deep networks");
    - ``margin``: ``p_1 - p_2``;
    - ``entropy``: ``1 - H(p) / log(classes)``, 1 where all is on one class (Teerapittayanon,
      McDanel & Kung 2016, "BranchyNet", whose entropy it turns round);
    - ``patience``: for how many exits in a row the class has been the same, this one included (Zhou
      et al. 2020, "BERT loses patience");
    - ``gate``: what a learned gate makes of the first three, see `gate_inputs`.

    Args:
        policy: Which of them.
        rule: Has the temperature, and the gate's weights.
        logits: (N, classes).
        streaks: Up to and with this exit.

    Returns:
        (N,) float64; not a number, which reaches no threshold, where a logit is none or the
        largest is infinite.

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


def score_one(policy: Policy, rule: ExitRule, logits: Sequence[float], streak: int) -> float:
    """As `exit_scores`, of one sample in plain numbers, which is a third of the price.

    Args:
        policy: Which of them.
        rule: Has the temperature, and the gate's weights.
        logits: Two classes or more.
        streak: For how many exits in a row the class has been the same.

    Example:
        >>> round(score_one("confidence", ExitRule(threshold=0.5), [1.0, 0.0], 1), 4)
        0.7311
    """
    return confidence_and_score(policy, rule, logits, streak)[1]


def confidence_and_score(policy: Policy, rule: ExitRule, logits: Sequence[float],
                         streak: int) -> tuple[float, float]:
    """The top softmax probability, and the policy's score, as `score_one` has it."""
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
    """What a learned gate sees: 1, and the scores of confidence, margin and entropy, (N, 4)."""
    check_logits(logits)
    scaled = _below_top(logits) / temperature
    total = np.exp(scaled).sum(axis=1, keepdims=True)
    chances = np.exp(scaled) / total
    parts = np.where(scaled > -np.inf, scaled, 0.0) - np.log(total)   # a chance of 0 adds nothing
    entropy = -(chances * parts).sum(axis=1)
    second, first = np.partition(chances, -2, axis=1)[:, -2:].T
    constant, *scores = _seen(first, second, entropy, np.log(logits.shape[1]))
    return np.stack([np.full(len(logits), constant), *scores], axis=1)


def _seen(first: Any, second: Any, entropy: Any, most_entropy: float) -> tuple[Any, Any, Any, Any]:
    """What a gate sees, and policies are made of; of one sample, or of many as arrays.

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
    """How far each logit is below its row's largest; not a number where that is infinite."""
    below = logits.astype(np.float64)
    top = below.max(axis=1, keepdims=True)
    return below - np.where(np.isfinite(top), top, np.nan)


def check_logits(logits: NDArray[Any]) -> None:
    """See that an exit gave logits.

    Raises:
        DataError: They are not (N, classes) of two classes or more.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(f"an exit gave logits of shape {logits.shape}, expected (N, classes) of "
                        "two classes or more; only classifiers can leave early")
