"""Thresholds with a guarantee, by a sequence of statistical tests of the mean cost of leaving.

A sample's cost is D = quality of the full path - quality where it leaves, in [-1, 1], and the null
hypothesis is E[D] >= epsilon. With one decision per sample D is in {-1, 0, 1}, and the test is
exact. A cost between these, such as a share of pixels, is first rounded at random to sign(D) with
probability abs(D) and to 0 otherwise. This keeps E[D] and leaves -1, 0 and 1 as they are, so that
one test serves all goals, whatever the distribution of D; the price is the variance of the
rounding. Thresholds are tested in a fixed order, strictest first, until
one is not rejected: the probability of any false rejection is then at most delta (Learn-then-Test:
Angelopoulos et al. 2021, section 3; fixed sequences: Bauer 1991; for early exits: Jazbec et al.
2024). The order must not be derived from the samples used for the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import betainc, betaincinv, gammaln, xlog1py, xlogy

from edgewright.exits._predictions import ExitPredictions, Floats

_NUISANCE_SHARE: Final = 0.1  # of delta, used for the unknown rate at which the exits disagree
_MAX_SAMPLES: Final = 10**9
_ROUNDING: Final = 1  # tells the draws of the rounding from others of the same seed


@dataclass(frozen=True)
class Certificate:
    """The result of testing the points of a path.

    Attributes:
        step: Index of the loosest certified point; 0, the strictest, needs no samples.
        p_value: The p-value of that point.
        samples: Number of samples used for the tests.
        samples_needed: If no step could be certified, about how many samples would certify the
            first one at the observed loss rates; None otherwise, and if these exceed epsilon.
    """

    step: int
    p_value: float
    samples: int
    samples_needed: int | None


def certify(predictions: ExitPredictions, path: Floats, epsilon: float, delta: float,
            seed: int = 0) -> Certificate:
    """Find the loosest point of a path whose mean cost is certified to be below epsilon.

    Args:
        predictions: Predictions on samples that were not used to find the path.
        path: Threshold vectors, (steps, early exits); with the first one no sample leaves early.
        epsilon: Allowed loss of quality relative to the full path, as a fraction above 0.
        delta: Allowed probability, over the draw of the samples, that more is lost.
        seed: Seed of the rounding of costs between -1, 0 and 1.

    Example:
        >>> predictions = ExitPredictions(np.full((1, 2000), 0.9), np.ones((2, 2000)))
        >>> path = np.array([[np.inf], [0.5]])
        >>> certify(predictions, path, 0.005, 0.1).step
        1
        >>> certify(predictions.of(np.arange(100)), path, 0.005, 0.1)
        Certificate(step=0, p_value=0.0, samples=100, samples_needed=644)
    """
    samples = predictions.quality.shape[1]
    draws = np.random.default_rng((seed, _ROUNDING)).random((samples,))
    step, reached = 0, 0.0
    for thresholds in path[1:]:
        found = p_value(*_counts(predictions, thresholds, draws), samples, epsilon, delta)
        if found > delta:
            break
        step, reached = step + 1, found
    needed = None
    if step == 0 and len(path) > 1:
        needed = samples_needed(*_counts(predictions, path[1], draws), samples, epsilon, delta)
    return Certificate(step, reached, samples, needed)


def p_value(lost: int, gained: int, samples: int, epsilon: float, delta: float) -> float:
    """The p-value of the observed loss under a true loss of epsilon or more.

    With T = lost - gained, P(T <= t) is computed exactly. It depends on the nuisance parameter d,
    the probability that D is not 0; the maximum over a Clopper-Pearson interval of level 1 -
    delta/10 is used, and delta/10 is added (Berger & Boos 1994), so that the p-value is valid for
    any number of samples. It increases with d: dP/dd = n/2 (P(T' = t + 1) - P(T' = t)) with T' of
    n - 1 samples, and for d <= 1/2 the polynomial of D has only real roots, so that T' is a shifted
    sum of Bernoullis, whose mode is within 1 of its mean (Darroch 1964). The interval's upper end
    is therefore the worst case; if d > 1/2, or t is within 2 of what epsilon allows, the p-value is
    1.

    Comparison with other tests, at 5,000 samples, epsilon 0.005 and delta 0.1, for points that lose
    nothing while 6 % of the predictions differ: this test certifies 51 %; betting (Waudby-Smith &
    Ramdas 2024, predictable plug-in) 40 %; Hoeffding-Bentkus (Bates et al. 2021) none, because it
    assumes the largest variance in the range of D. It also does not depend on the order of the
    samples, as betting does.

    Args:
        lost: Samples with D = 1: only the full path decides rightly.
        gained: Samples with D = -1: only the early exit does.
        samples: Number of all samples.
        epsilon: Allowed loss, as a fraction.
        delta: The level of the test.

    Example:
        >>> round(p_value(60, 55, 5000, 0.005, delta=0.1), 3)
        0.06
    """
    spent = _NUISANCE_SHARE * delta
    most = _upper_share(lost + gained, samples, 1 - spent)
    if most > 0.5 or lost - gained > (samples - 1) * epsilon - 2:
        return 1.0
    if most < epsilon:  # the exits disagree too rarely for such a loss
        return spent
    return min(1.0, spent + _lower_tail(lost - gained, samples, epsilon, most))


def samples_needed(lost: int, gained: int, samples: int, epsilon: float,
                   delta: float) -> int | None:
    """About how many samples would certify a loss below epsilon, at the observed rates.

    Args:
        lost: Samples with D = 1: only the full path decides rightly.
        gained: Samples with D = -1: only the early exit does.
        samples: Number of all samples.
        epsilon: Allowed loss, as a fraction.
        delta: Allowed probability of error.

    Returns:
        None if the observed loss is not below epsilon, or more than 10^9 would be needed.

    Example:
        >>> samples_needed(0, 0, 100, 0.01, 0.1), samples_needed(2, 0, 100, 0.01, 0.1)
        (321, None)
    """
    def enough(count: int) -> bool:
        scaled_lost, scaled_gained = (round(part * count / samples) for part in (lost, gained))
        return p_value(scaled_lost, scaled_gained, count, epsilon, delta) <= delta

    if lost - gained >= epsilon * samples:
        return None
    low, high = 1, max(2, math.ceil(math.log(1 / delta) / epsilon))  # a lower bound
    while not enough(high):
        if high > _MAX_SAMPLES:
            return None
        low, high = high, 2 * high
    while high - low > max(1, low // 1000):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _counts(predictions: ExitPredictions, thresholds: Floats, draws: Floats) -> tuple[int, int]:
    """How many samples lose and gain, after rounding each cost to -1, 0 or 1."""
    costs = predictions.costs(thresholds)
    rounded = np.sign(costs) * (draws < np.abs(costs))
    return int((rounded > 0).sum()), int((rounded < 0).sum())


def _upper_share(count: int, samples: int, level: float) -> float:
    """The Clopper-Pearson upper bound on a proportion."""
    return float(betaincinv(count + 1, samples - count, level)) if count < samples else 1.0


def _lower_tail(total: int, samples: int, mean: float, nonzero: float) -> float:
    """P(sum of D <= total), where D is not 0 with probability ``nonzero`` and has mean ``mean``.

    Summed over the number of non-zero D, at least ten standard deviations to either side.
    """
    center = samples * nonzero
    width = 10 * math.sqrt(center) + 30
    counts = np.arange(max(0, math.floor(center - width)),
                       min(samples, math.ceil(center + width)) + 1, dtype=np.float64)
    log_chance = (gammaln(samples + 1) - gammaln(counts + 1) - gammaln(samples - counts + 1)
                  + xlogy(counts, nonzero) + xlog1py(samples - counts, -nonzero))
    positive = np.floor((total + counts) / 2)  # the largest number of D that may be 1
    share = (nonzero + mean) / (2 * nonzero)
    below = np.where(positive >= counts, 1.0, 0.0)
    inside = (positive >= 0) & (positive < counts)
    below[inside] = betainc(counts[inside] - positive[inside], positive[inside] + 1, 1 - share)
    return float(np.exp(log_chance) @ below)
