"""Thresholds with a guarantee: tests that the loss of accuracy is small, one after the other.

A sample's loss is D = 1[full path right] - 1[early answer right], in {-1, 0, 1}, and the hypothesis
to reject is E[D] >= epsilon. Thresholds are tested in one fixed order, strictest first, and the
first that is not rejected ends it: the chance that any rejection was wrong is then at most delta
(Learn-then-Test: Angelopoulos et al. 2021, section 3; fixed sequences: Bauer 1991; for early exits:
Jazbec et al. 2024). The order must not come from the samples it is tested on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import betainc, betaincinv, gammaln, xlog1py, xlogy

from edgewright.exits._answers import Answers, Floats

_NUISANCE: Final = 0.1  # of delta, spent on not knowing how often the exits disagree
_MOST_SAMPLES: Final = 10**9


@dataclass(frozen=True)
class Certificate:
    """What could be shown of the points of a path.

    Attributes:
        step: Of the loosest point that is certified; 0, the strictest, needs no samples.
        p_value: There.
        samples: That it was tested on.
        samples_needed: Where not one step could be taken, about how many would let the first be,
            if the losses go on as seen; None otherwise, and where they are above epsilon.
    """

    step: int
    p_value: float
    samples: int
    samples_needed: int | None


def certify(answers: Answers, path: Floats, epsilon: float, delta: float) -> Certificate:
    """Find the loosest point of a path whose accuracy loss is below epsilon, by tests.

    Args:
        answers: On samples that the path was not found on.
        path: Threshold vectors, (steps, early exits), the first of which is nobody leaving early.
        epsilon: Accuracy that may be lost against the full path, as a fraction above 0.
        delta: Chance that more is lost after all, over the draw of the samples.

    Example:
        >>> answers = Answers(np.full((1, 2000), 0.9), np.ones((2, 2000), dtype=bool))
        >>> path = np.array([[np.inf], [0.5]])
        >>> certify(answers, path, 0.005, 0.1).step
        1
        >>> certify(answers.of(np.arange(100)), path, 0.005, 0.1)
        Certificate(step=0, p_value=0.0, samples=100, samples_needed=644)
    """
    samples = answers.correct.shape[1]
    step, reached = 0, 0.0
    for thresholds in path[1:]:
        found = p_value(*_counts(answers, thresholds), samples, epsilon, delta)
        if found > delta:
            break
        step, reached = step + 1, found
    needed = None
    if step == 0 and len(path) > 1:
        needed = samples_needed(*_counts(answers, path[1]), samples, epsilon, delta)
    return Certificate(step, reached, samples, needed)


def p_value(lost: int, gained: int, samples: int, epsilon: float, delta: float) -> float:
    """How likely so small a loss would be, were the true one epsilon or more.

    With T = lost - gained, P(T <= t) is computed exactly. It depends on how often D is not 0, the
    nuisance; the largest value over a Clopper-Pearson interval of level 1 - delta/10 is taken, and
    delta/10 added (Berger & Boos 1994), so that the p-value is valid with any number of samples. It
    grows with the nuisance d: dP/dd = n/2 (P(T' = t + 1) - P(T' = t)) with T' of n - 1 samples, and
    for d <= 1/2 the polynomial of D has real roots only, so that T' is a shifted sum of Bernoullis,
    whose mode is within 1 of its mean (Darroch 1964). Hence the interval's upper end decides; where
    d > 1/2, or t is within 2 of what epsilon allows, the p-value is 1.

    Why not another: at 5,000 samples, epsilon 0.005 and delta 0.1, of points that truly lose
    nothing while 6 % of the answers differ, this certifies 51 %; betting (Waudby-Smith & Ramdas
    2024, predictable plug-in) 40 %; Hoeffding-Bentkus (Bates et al. 2021) none, since it takes D
    for as spread as its range allows. Nor does it depend on the order of the samples, as bets do.

    Args:
        lost: Samples that only the full path gets right.
        gained: Samples that only the early answer gets right.
        samples: All of them.
        epsilon: As a fraction.
        delta: The level it will be held against.

    Example:
        >>> round(p_value(60, 55, 5000, 0.005, delta=0.1), 3)
        0.06
    """
    spent = _NUISANCE * delta
    most = _upper_share(lost + gained, samples, 1 - spent)
    if most > 0.5 or lost - gained > (samples - 1) * epsilon - 2:
        return 1.0
    if most < epsilon:  # too seldom different for such a loss
        return spent
    return min(1.0, spent + _lower_tail(lost - gained, samples, epsilon, most))


def samples_needed(lost: int, gained: int, samples: int, epsilon: float,
                   delta: float) -> int | None:
    """About how many samples would show the loss to be below epsilon, at the rates seen.

    Args:
        lost: Samples that only the full path gets right.
        gained: Samples that only the early answer gets right.
        samples: All of them.
        epsilon: As a fraction.
        delta: Chance of error allowed.

    Returns:
        None where the loss seen is not below epsilon, or more than 10^9 would be needed.

    Example:
        >>> samples_needed(0, 0, 100, 0.01, 0.1), samples_needed(2, 0, 100, 0.01, 0.1)
        (321, None)
    """
    def enough(count: int) -> bool:
        scaled_lost, scaled_gained = (round(part * count / samples) for part in (lost, gained))
        return p_value(scaled_lost, scaled_gained, count, epsilon, delta) <= delta

    if lost - gained >= epsilon * samples:
        return None
    low, high = 1, max(2, math.ceil(math.log(1 / delta) / epsilon))  # the least that can do
    while not enough(high):
        if high > _MOST_SAMPLES:
            return None
        low, high = high, 2 * high
    while high - low > max(1, low // 1000):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _counts(answers: Answers, thresholds: Floats) -> tuple[int, int]:
    losses = answers.losses(thresholds)
    return int((losses > 0).sum()), int((losses < 0).sum())


def _upper_share(count: int, samples: int, level: float) -> float:
    """Clopper and Pearson's upper bound on a share."""
    return float(betaincinv(count + 1, samples - count, level)) if count < samples else 1.0


def _lower_tail(total: int, samples: int, mean: float, nonzero: float) -> float:
    """P(sum of D <= total), where D is not 0 with chance ``nonzero`` and has this mean.

    Summed over the number of D that are not 0, ten standard deviations and more to either side.
    """
    centre = samples * nonzero
    width = 10 * math.sqrt(centre) + 30
    counts = np.arange(max(0, math.floor(centre - width)),
                       min(samples, math.ceil(centre + width)) + 1, dtype=np.float64)
    log_chance = (gammaln(samples + 1) - gammaln(counts + 1) - gammaln(samples - counts + 1)
                  + xlogy(counts, nonzero) + xlog1py(samples - counts, -nonzero))
    positive = np.floor((total + counts) / 2)  # of these D, at most so many are 1
    share = (nonzero + mean) / (2 * nonzero)
    below = np.where(positive >= counts, 1.0, 0.0)
    inside = (positive >= 0) & (positive < counts)
    below[inside] = betainc(counts[inside] - positive[inside], positive[inside] + 1, 1 - share)
    return float(np.exp(log_chance) @ below)
