"""Drift: quiet on samples like the calibration's however long, loud within two windows on others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core import ExitProfile
from edgewright.errors import UsageError
from edgewright.runtime import DriftMonitor
from edgewright.runtime._drift import (
    _merge,
    _most_even_counts,
    chi_square_tail,
    homogeneity_p_value,
)

DRAWS = {
    "smooth": lambda rng, n: rng.beta(5, 1, n),
    "sure": lambda rng, n: np.where(rng.random(n) < 0.35, 1.0, rng.beta(3, 1, n)),
    "steps": lambda rng, n: rng.binomial(60, 0.7, n) / 60,
    "certain": lambda _, n: np.ones(n),
}


def _draw(kind: str, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    confidence = DRAWS[kind](rng, n)
    later = np.where(rng.random(n) < 0.6, 1, 2)
    return confidence, np.where(confidence >= 0.9, 0, later)


def _profile(confidence: np.ndarray, exits: np.ndarray) -> ExitProfile:
    return ExitProfile(split="val", samples=len(exits),
                       shares=tuple(np.bincount(exits, minlength=3) / len(exits)),
                       deciles=tuple(np.quantile(confidence, np.arange(1, 10) / 10)))


@pytest.mark.parametrize("kind", DRAWS)
def test_no_alarm_without_drift(kind: Any) -> None:
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        monitor = DriftMonitor(_profile(*_draw(kind, rng, 2000)))
        monitor.add(*_draw(kind, rng, 200 * 500 if kind == "smooth" else 20 * 500))
        alarms += monitor.verdict.drifted
    assert alarms == 0   # one in twenty happens with a probability below 0.02


@pytest.mark.parametrize("kind", ["smooth", "sure", "steps"])
@pytest.mark.parametrize("samples", [100, 1000])
def test_false_alarms_keep_to_alpha(kind: str, samples: int) -> None:
    runs, alpha = 40, 0.1
    alarms = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        monitor = DriftMonitor(_profile(*_draw(kind, rng, samples)), window=200, alpha=alpha)
        monitor.add(*_draw(kind, rng, 10 * 200))
        alarms += monitor.verdict.drifted
    assert alarms <= runs * alpha + 3 * np.sqrt(runs * alpha * (1 - alpha))


@pytest.mark.parametrize("shift", [
    lambda confidence, exits: (confidence ** 2, exits),                     # less sure
    lambda confidence, exits: (confidence, np.where(exits == 1, 2, exits)),   # later exits
    lambda confidence, exits: (np.full_like(confidence, np.nan), exits),
    lambda confidence, exits: (np.ones_like(confidence), exits),
])
def test_alarm_within_two_windows_of_a_shift(shift: Callable[..., Any]) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        monitor = DriftMonitor(_profile(*_draw("smooth", rng, 2000)))
        monitor.add(*_draw("smooth", rng, 10 * 500))
        assert not monitor.verdict.drifted
        monitor.add(*shift(*_draw("smooth", rng, 2 * 500)))
        verdict = monitor.verdict
        assert verdict.drifted
        assert verdict.since_sample in (5000, 5500)
        assert verdict.p_value is not None
        assert verdict.p_value < 1e-3
        assert verdict.summary.startswith("the guarantee no longer applies: since sample 5,")


def test_less_of_a_tie_is_seen() -> None:
    rng = np.random.default_rng(0)
    monitor = DriftMonitor(_profile(*_draw("sure", rng, 2000)))
    confidence, exits = _draw("sure", rng, 1000)
    monitor.add(np.where(confidence == 1, 0.95, confidence), exits)
    assert monitor.verdict.drifted
    assert "of the confidences at the first exit are between" in monitor.verdict.summary


def test_in_calls_of_any_size_it_is_the_same() -> None:
    rng = np.random.default_rng(0)
    profile, (confidence, exits) = _profile(*_draw("smooth", rng, 500)), _draw("smooth", rng, 730)
    at_once, in_parts = DriftMonitor(profile, window=100), DriftMonitor(profile, window=100)
    at_once.add(confidence, exits)
    for part in np.split(np.arange(730), [0, 1, 2, 60, 100, 350, 729]):
        in_parts.add(confidence[part], exits[part])
    assert in_parts.verdict == at_once.verdict
    assert at_once.verdict.p_value is not None


def test_an_alarm_stays() -> None:
    rng = np.random.default_rng(0)
    monitor = DriftMonitor(_profile(*_draw("smooth", rng, 500)), window=100)
    monitor.add(np.zeros(100), np.full(100, 2))
    alarmed = monitor.verdict
    monitor.add(*_draw("smooth", rng, 1000))
    assert alarmed.drifted
    assert monitor.verdict is alarmed


def test_before_the_first_window_and_with_nothing_to_compare() -> None:
    monitor = DriftMonitor(ExitProfile(split="val", samples=100, shares=(1.0,)), window=50)
    assert (monitor.verdict.p_value, monitor.verdict.summary) == (
        None, "no complete window of 50 samples yet")
    monitor.add(np.ones(50), np.zeros(50, dtype=np.int64))
    assert monitor.verdict.summary == "the profile has nothing to compare with"
    assert not monitor.verdict.drifted


def test_threads_lose_no_sample() -> None:
    profile = ExitProfile(split="val", samples=100, shares=(0.5, 0.5))
    monitor = DriftMonitor(profile, window=50)

    def add() -> None:
        for _ in range(100):
            monitor.add(np.ones(2), np.array([0, 1]))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.verdict.summary.endswith("in 32 windows of 50 samples")


@pytest.mark.parametrize(("settings", "message"), [
    ({"window": 49}, "at least 50 samples to detect drift, got 49"),
    ({"alpha": 0}, "between 0 and 1, got 0"),
    ({"profile": ExitProfile(split="val", samples=0, shares=(1.0,))}, "the profile has 0 samples"),
])
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    profile = ExitProfile(split="val", samples=10, shares=(0.5, 0.5))
    with pytest.raises(UsageError, match=message):
        DriftMonitor(**{"profile": profile, **settings})


@pytest.mark.parametrize(("confidence", "exits", "message"), [
    (np.ones(3), np.zeros(2, dtype=int), "got 3 and 2"),
    (np.ones(2), np.array([0, 2]), "exits are from 0 to 2, but the profile has 2"),
    (np.ones(2), np.array([-1, 0]), "exits are from -1 to 0"),
])
def test_samples_that_are_refused(confidence: Any, exits: Any, message: str) -> None:
    monitor = DriftMonitor(ExitProfile(split="val", samples=10, shares=(0.5, 0.5)))
    with pytest.raises(UsageError, match=message):
        monitor.add(confidence, exits)


@settings(deadline=None)
@given(st.floats(0, 400), st.integers(1, 30))
def test_the_tail_of_chi_square(statistic: Any, freedom: Any) -> None:
    expected = scipy.stats.chi2.sf(statistic, freedom)
    assert chi_square_tail(statistic, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(10, 300), st.integers(10, 300)), min_size=2, max_size=8))
def test_homogeneity_is_the_g_test_but_for_its_correction(counts: Any) -> None:
    table = np.array(counts, dtype=float).T
    merged = _merge(table)
    found = homogeneity_p_value(*table)
    if merged.shape[1] < 2:
        assert found is None
        return
    expected = scipy.stats.chi2_contingency(merged, correction=False, lambda_="log-likelihood")
    assert found == pytest.approx(expected.pvalue, rel=0.5, abs=0.05)
    assert found >= expected.pvalue * (1 - 1e-6) - 1e-12   # the correction is cautious


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 400)), min_size=1, max_size=8))
def test_merged_bins_lose_nothing_and_expect_enough(counts: Any) -> None:
    table = np.array([*counts, (20, 20)], dtype=float).T
    merged = _merge(table)
    np.testing.assert_allclose(merged.sum(axis=1), table.sum(axis=1))
    if merged.shape[1] > 1:
        expected = merged.sum(axis=0) * merged.sum(axis=1).min() / merged.sum()
        assert expected.min() >= 5 - 1e-9


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=3, max_size=120), st.integers(1, 4))
def test_ties_are_shared_so_that_bins_are_most_even_counts(values: Any, edges: Any) -> None:
    found_at = np.arange(1, edges + 1)
    confidence = np.array(values)[:, None]
    below = (confidence < found_at).sum(axis=0).astype(float)
    up_to = (confidence <= found_at).sum(axis=0).astype(float)
    counts = _most_even_counts(below, up_to, len(values))
    assert counts.sum() == pytest.approx(len(values))
    assert counts.min() >= -1e-9
    string = np.cumsum(counts)[:-1]
    assert np.all((below - 1e-9 <= string) & (string <= up_to + 1e-9))
    rng = np.random.default_rng(0)
    others = np.sort(rng.uniform(below, up_to, (200, edges)), axis=1)
    spread = (np.diff(others, prepend=0, append=len(values), axis=1) ** 2).sum(axis=1)
    assert (counts ** 2).sum() <= spread.min() + 1e-3 * len(values)
