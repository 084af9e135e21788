"""The walk of a single sample, in plain numbers: most calls on a device are of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from numpy.typing import NDArray

from edgewright.core import ExitRule, OperatingPoint, Policy
from edgewright.runtime.early_exit._policies import check_logits
from edgewright.runtime.early_exit._walk import HasTime, RunSegment, Walked
from edgewright.runtime.engines import Arrays

MOST_CLASSES: Final = 128  # arrays are faster for more


def walk_one(point: OperatingPoint, takes_inputs: frozenset[int], inputs: Arrays, run: RunSegment,
             has_time: HasTime) -> Walked:
    """As `walk`, of one sample, at a third of the price, which small networks feel.

    Args:
        point: Has the path, and the rules that samples leave by.
        takes_inputs: Segments that take the model's inputs in place of features.
        inputs: Of the model, (1, ...) each.
        run: Runs a segment, given its number.
        has_time: Whether a segment may still be run.
    """
    current, named, streak, first, cut_short = inputs, -1, 0, math.nan, False
    for step, rule in enumerate(point.rules):
        outputs = run(point.path[step], current)
        logits = outputs[0]
        check_logits(logits)
        values = logits[0].tolist()
        if point.policy == "patience":
            best = int(logits[0].argmax())
            named, streak = best, streak + 1 if best == named else 1
        sure, score = _scores(point.policy, rule, values, streak)
        if step == 0:
            first = sure
        after = point.path[step + 1]
        cut_short = not score >= rule.threshold and not has_time(after, 1)
        if cut_short or score >= rule.threshold:
            return _left(logits, step, cut_short, first)
        current = inputs if after in takes_inputs else outputs[-1:]
    return _left(run(point.path[-1], current)[0], len(point.rules), False, first)


def score_one(policy: Policy, rule: ExitRule, logits: Sequence[float], streak: int) -> float:
    """As `exit_scores`, of one sample.

    Args:
        policy: Which of them.
        rule: Has the temperature, and the gate's weights.
        logits: Two classes or more.
        streak: For how many exits in a row the class has been the same.

    Example:
        >>> round(score_one("confidence", ExitRule(threshold=0.5), [1.0, 0.0], 1), 4)
        0.7311
    """
    return _scores(policy, rule, logits, streak)[1]


def _scores(policy: Policy, rule: ExitRule, logits: Sequence[float],
            streak: int) -> tuple[float, float]:
    """The top softmax probability, and the policy's score."""
    top, temperature = max(logits), rule.temperature
    below = [(value - top) / temperature for value in logits]
    total = sum(map(math.exp, below))
    sure = 1 / total
    if policy == "confidence" or math.isnan(total):
        return sure, sure
    if policy == "patience":
        return sure, float(streak)
    margin = sure - math.exp(sorted(below)[-2]) / total
    if policy == "margin":
        return sure, margin
    entropy = math.log(total) - sum(part * math.exp(part) for part in below
                                    if part > -math.inf) / total
    surely = 1 - entropy / math.log(len(logits))
    if policy == "entropy":
        return sure, surely
    constant, *weights = rule.gate
    asked = constant + sum(a * b for a, b in zip(weights, (sure, margin, surely), strict=True))
    return sure, 1 / (1 + math.exp(-asked)) if asked > -700 else 0.0


def _left(logits: NDArray[Any], step: int, cut_short: bool, first: float) -> Walked:
    return Walked((logits,), [step], [cut_short], [first])
