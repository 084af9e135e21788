"""The guarantee: exact tails, p-values that hold, tests in order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from edgewright.exits._predictions import ExitPredictions
from edgewright.exits._risk import _lower_tail, certify, p_value, samples_needed

NOBODY = 1000.0


def slow_pmf(samples: Any, mean: Any, nonzero: Any) -> Any:
    """Of the sum of D, one sample after the other; entry 0 is a sum of -samples."""
    one = np.array([(nonzero - mean) / 2, 1 - nonzero, (nonzero + mean) / 2])
    found = np.ones(1)
    for _ in range(samples):
        found = np.convolve(found, one)
    return found


def slow_tail(total: Any, samples: Any, mean: Any, nonzero: Any) -> Any:
    return slow_pmf(samples, mean, nonzero)[:max(0, total + samples + 1)].sum()


def betting(losses: Any, epsilon: Any, delta: Any) -> Any:
    """Waudby-Smith & Ramdas 2024, theorem 3, lower bets with predictable plug-in (equation 26)."""
    scaled, mean = (losses + 1) / 2, (epsilon + 1) / 2
    seen = np.arange(1, len(losses) + 1)
    means = (0.5 + np.cumsum(scaled)) / (seen + 1)
    variances = (0.25 + np.cumsum((scaled - means) ** 2)) / (seen + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    bets = np.minimum(np.sqrt(2 * math.log(1 / delta) / (len(losses) * before)), 0.75 / (1 - mean))
    return min(1.0, math.exp(-np.cumsum(np.log1p(bets * (mean - scaled))).max()))


def hoeffding_bentkus(losses: Any, epsilon: Any) -> Any:
    """Bates et al. 2021, section 3.1."""
    count, mean, limit = len(losses), (losses.mean() + 1) / 2, (epsilon + 1) / 2
    if mean >= limit:
        return 1.0
    kl = mean * math.log(mean / limit) + (1 - mean) * math.log((1 - mean) / (1 - limit))
    return min(1.0, math.exp(-count * kl),
               math.e * binom.cdf(math.ceil(count * mean), count, limit))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(-60, 60), st.floats(0.001, 0.5), st.floats(0.01, 1))
def test_the_tail_matches_the_exact_sum(samples: Any, total: Any, nonzero: Any, share: Any) -> None:
    mean = share * nonzero
    assert _lower_tail(total, samples, mean, nonzero) == pytest.approx(
        slow_tail(total, samples, mean, nonzero), abs=1e-9)


def test_a_tail_of_many_samples_is_normal_in_its_middle() -> None:
    samples, mean, nonzero = 10**7, 0.005, 0.05
    deviation = math.sqrt(samples * (nonzero - mean**2))
    for sigmas, chance in ((0, 0.5), (-1, 0.1587), (-2, 0.02275)):
        total = round(samples * mean + sigmas * deviation)
        assert _lower_tail(total, samples, mean, nonzero) == pytest.approx(chance, abs=1e-3)


@pytest.mark.parametrize(("lost", "gained", "samples", "epsilon"), [
    (0, 0, 300, 0.02), (1, 0, 300, 0.04), (3, 2, 400, 0.03), (5, 9, 200, 0.05), (20, 22, 150, 0.06)])
def test_the_p_value_is_the_worst_case_over_the_nuisance(lost: int, gained: int, samples: int,
                                                         epsilon: float) -> None:
    delta = 0.1
    upper = beta.ppf(1 - delta / 10, lost + gained + 1, samples - lost - gained)
    worst = max((slow_tail(lost - gained, samples, mean, nonzero)
                 for nonzero in np.linspace(epsilon, max(epsilon, upper), 15)
                 for mean in np.linspace(epsilon, min(2 * epsilon, nonzero), 3)), default=0.0)
    found = p_value(lost, gained, samples, epsilon, delta)
    assert found >= worst * (upper >= epsilon)
    assert found == pytest.approx(delta / 10 + worst * (upper >= epsilon), abs=1e-6)


@pytest.mark.parametrize("nonzero", [0.02, 0.06, 0.3])
@pytest.mark.parametrize("delta", [0.05, 0.1])
def test_a_loss_of_epsilon_is_rarely_certified(nonzero: float, delta: float) -> None:
    """Exactly at the hypothesis' edge, all outcomes weighed by their chance."""
    samples, epsilon = 400, 0.02
    rejected = 0.0
    low, high = (int(binom.ppf(q, samples, nonzero)) for q in (1e-6, 1 - 1e-6))
    for differ in range(low, high + 1):
        for lost in range(differ + 1):
            chance = binom.pmf(lost, differ, (nonzero + epsilon) / (2 * nonzero)) if differ else 1.0
            if chance < 1e-9:
                continue
            if p_value(lost, differ - lost, samples, epsilon, delta) <= delta:
                rejected += chance * binom.pmf(differ, samples, nonzero)
            else:
                break  # more lost answers are no less of a loss
    assert rejected <= delta
    assert rejected > delta / 4 or nonzero == 0.02  # and the test is not a formality


def test_the_p_value_is_monotone_in_losses_samples_and_epsilon() -> None:
    base = p_value(10, 8, 3000, 0.005, 0.1)
    assert p_value(11, 8, 3000, 0.005, 0.1) > base
    assert p_value(10, 8, 4000, 0.005, 0.1) < base
    assert p_value(10, 8, 3000, 0.007, 0.1) < base
    assert p_value(14, 12, 3000, 0.005, 0.1) > base  # as many lost, but less is known


def test_outside_its_assumptions_the_p_value_is_one() -> None:
    assert p_value(20, 5, 3000, 0.005, 0.1) == 1.0  # no less than epsilon
    assert p_value(1600, 1600, 4000, 0.05, 0.1) == 1.0  # most answers differ
    assert p_value(4, 0, 4, 0.05, 0.1) == 1.0


@pytest.mark.parametrize("differ", [10, 50, 300])
def test_it_certifies_more_than_betting_and_hoeffding_bentkus(differ: int) -> None:
    """The better half of what is seen where nothing is truly lost, 5,000 samples, epsilon 0.5 %."""
    losses = np.zeros(5000)
    losses[:differ] = -1.0
    losses[:round(differ / 2 - math.sqrt(differ) / 4)] = 1.0
    lost, gained = int((losses > 0).sum()), int((losses < 0).sum())
    ours = p_value(lost, gained, 5000, 0.005, 0.1)
    rng = np.random.default_rng(0)
    orders = [betting(rng.permutation(losses), 0.005, 0.1) for _ in range(50)]
    assert ours <= 0.1
    assert hoeffding_bentkus(losses, 0.005) > 0.5
    if differ == 300:
        assert np.mean([p <= 0.1 for p in orders]) < 0.9
        assert np.median(orders) > ours


def answers_losing(*lost: Any, samples: int = 4000) -> Any:
    """One exit; a threshold of k lets out all, and the k-th candidate loses so many answers."""
    quality = np.ones((len(lost) + 1, samples))
    for row, count in zip(quality, lost, strict=False):
        row[:count] = 0
    scores = np.zeros((len(lost), samples))
    return ExitPredictions(scores, quality)


def one_exit_each(count: int) -> Any:
    """A path along which the only exit that lets samples out is another at each step."""
    path = np.full((count + 1, count), NOBODY)
    path[np.arange(1, count + 1), np.arange(count)] = 0.0
    return path


def test_the_first_test_that_fails_ends_it() -> None:
    answers = answers_losing(0, 2, 60, 0)  # the last would pass, but comes behind a failure
    found = certify(answers, one_exit_each(4), 0.005, 0.1)
    assert found.step == 2
    assert found.p_value == p_value(2, 0, 4000, 0.005, 0.1)
    assert (found.samples, found.samples_needed) == (4000, None)
    assert certify(answers_losing(0, 2, 3, 0), one_exit_each(4), 0.005, 0.1).step == 4


def test_without_certification_the_needed_samples_are_reported() -> None:
    answers = answers_losing(0, samples=100)
    found = certify(answers, one_exit_each(1), 0.005, 0.1)
    assert (found.step, found.p_value) == (0, 0.0)
    assert found.samples_needed == pytest.approx(640, rel=0.02)
    assert found.samples_needed is not None
    enough = answers_losing(0, samples=found.samples_needed)
    assert certify(enough, one_exit_each(1), 0.005, 0.1).step == 1


def test_a_loss_above_epsilon_cannot_be_certified_by_any_number_of_samples() -> None:
    found = certify(answers_losing(40), one_exit_each(1), 0.005, 0.1)
    assert (found.step, found.samples_needed) == (0, None)
    assert samples_needed(499, 0, 100_000, 0.005, 0.1) is not None
    assert samples_needed(500, 0, 100_000, 0.005, 0.1) is None
    assert samples_needed(4_999_999, 0, 10**9, 0.005, 0.1) is None  # 10^9 do not tell them apart


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 2), (30, 20), (1, 40)])
@pytest.mark.parametrize("epsilon", [0.005, 0.02])
def test_the_samples_needed_are_close_to_the_minimum(lost: int, gained: int,
                                                     epsilon: float) -> None:
    needed = samples_needed(lost, gained, 5000, epsilon, 0.1)
    assert needed is not None
    assert needed >= math.log(10) / epsilon or gained > lost
    for factor, certified in ((1, True), (1.5, True), (0.6, False)):
        count = round(needed * factor)
        fewer, more = (round(part * count / 5000) for part in (lost, gained))
        assert (p_value(fewer, more, count, epsilon, 0.1) <= 0.1) == certified


def test_a_path_without_steps_needs_no_samples() -> None:
    found = certify(answers_losing(0, samples=60), np.array([[NOBODY]]), 0.01, 0.1)
    assert (found.step, found.p_value, found.samples_needed) == (0, 0.0, None)
