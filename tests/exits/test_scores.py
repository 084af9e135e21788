"""Exits whose costs are shares: thresholds, guarantee and record, from scores of the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewright.errors import DataError, UsageError
from edgewright.exits import (
    ExitCalibration,
    ExitPredictions,
    calibrate_scores,
    compute_exit_curve,
)
from edgewright.exits._risk import certify

MACS = [10, 20, 70]
ONE_STEP = np.array([[np.inf], [0.0]])


def simulated(count: int, seed: int = 0) -> ExitPredictions:
    """Shares of right pixels of three exits, and scores that know about them."""
    rng = np.random.default_rng(seed)
    ease = rng.beta(4, 1, size=count)
    quality = np.stack([ease ** power for power in (0.5, 0.3, 0.1)])
    scores = np.clip(quality[:2] + 0.05 * rng.normal(size=(2, count)), 0, 1)
    return ExitPredictions(scores, quality, "pixel_accuracy")


@pytest.mark.parametrize("level", [None, 0.9])
def test_the_record_is_that_of_the_split(level: float | None) -> None:
    predictions = simulated(4000)
    config = ExitCalibration(confidence_level=level, max_drop=0.02, points={"fast": 0.2})
    default, fast = calibrate_scores(predictions, MACS, config, split="held out")
    for found, drop in ((default, 0.02), (fast, 0.2)):
        left_at = predictions.left_at(found.point.thresholds)
        shares = np.bincount(left_at, minlength=3) / 4000
        profile = found.point.calibrated
        assert profile is not None
        assert profile.shares == tuple(shares)
        assert shares[:2].sum() > 0
        taken = predictions.quality[left_at, np.arange(4000)]
        assert found.accuracy == pytest.approx(taken.mean())
        assert found.full_accuracy == pytest.approx(predictions.quality[-1].mean())
        assert found.full_accuracy - found.accuracy <= drop
        assert profile.deciles == tuple(np.quantile(predictions.scores[0], np.arange(1, 10) / 10))
        assert profile.errors_before == profile.errors_after
        assert all(0 < error < 0.2 for error in profile.errors_before)
        assert all(rule.temperature == 1 for rule in found.point.rules)
        assert "pixel accuracy" in found.words
    assert fast.mean_macs < default.mean_macs < sum(MACS)
    curve = compute_exit_curve(predictions, default.steps, MACS)
    assert curve[0].accuracy == pytest.approx(predictions.quality[-1].mean())
    assert curve[-1].macs == pytest.approx(10, rel=0.01)


def test_costs_between_the_whole_numbers_are_rounded_to_their_mean() -> None:
    costs = np.random.default_rng(0).uniform(-0.3, 0.5, 200_000)
    quality = np.stack([0.5 - costs / 2, 0.5 + costs / 2])
    predictions = ExitPredictions(np.ones((1, len(costs))), quality)
    np.testing.assert_allclose(predictions.costs([0.0]), costs)
    assert certify(predictions, ONE_STEP, 0.11, 0.05).step == 1
    assert certify(predictions, ONE_STEP, 0.09, 0.05).step == 0


def test_whole_numbers_are_not_rounded() -> None:
    quality = np.ones((2, 4000))
    quality[0, :12], quality[1, 20:25] = 0, 0
    predictions = ExitPredictions(np.ones((1, 4000)), quality)
    found = {certify(predictions, ONE_STEP, 0.01, 0.1, seed) for seed in range(5)}
    assert len(found) == 1


@pytest.mark.parametrize("spread", [0.02, 0.5])
def test_a_cost_above_the_bound_is_rarely_certified(spread: float) -> None:
    """Of 400 splits whose mean cost is the bound, at most the allowed share passes."""
    epsilon, delta, passed = 0.02, 0.1, 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        costs = np.clip(epsilon + spread * rng.uniform(-1, 1, 1500), -1, 1)
        quality = np.stack([0.5 - costs / 2, 0.5 + costs / 2])
        passed += certify(ExitPredictions(np.ones((1, 1500)), quality), ONE_STEP, epsilon, delta,
                          seed).step
    assert passed / 400 <= delta + 3 * (delta * (1 - delta) / 400) ** 0.5
    if spread > 0.1:
        assert passed  # the test is not so weak that nothing ever passes


def test_small_shares_are_certified_by_a_realistic_split() -> None:
    rng = np.random.default_rng(1)
    costs = np.clip(rng.normal(0.002, 0.01, 3000), -1, 1)
    predictions = ExitPredictions(np.ones((1, 3000)), np.stack([0.9 - costs, np.full(3000, 0.9)]))
    assert certify(predictions, ONE_STEP, 0.01, 0.05).step == 1


@pytest.mark.parametrize("level", [None, 0.9])
def test_the_loosest_thresholds_that_are_accepted_besides_are_chosen(level: float | None) -> None:
    predictions, config = simulated(4000), ExitCalibration(confidence_level=level, max_drop=0.1)
    free, = calibrate_scores(predictions, MACS, config)
    asked: list[Any] = []

    def at_most_half_leave(candidates: Any, *, drop: float) -> list[bool]:
        asked.append((candidates, drop))
        return [bool((predictions.left_at([rule.threshold for rule in rules]) < 2).mean() <= 0.5)
                for rules in candidates]

    found, = calibrate_scores(predictions, MACS, config, accept=at_most_half_leave)
    assert (predictions.left_at(free.point.thresholds) < 2).mean() > 0.5
    assert 0.3 < (predictions.left_at(found.point.thresholds) < 2).mean() <= 0.5
    candidates, drop = asked[0]
    assert drop == 0.1
    assert candidates[0] == free.point.rules
    assert all(rule.threshold is None for rule in candidates[-1])
    assert (found.point.guarantee is None) == (level is None)
    if found.point.guarantee is not None:
        assert found.point.guarantee.p_value <= 0.1
    same, = calibrate_scores(predictions, MACS, config, accept=lambda rules, drop: [True] * len(rules))
    assert same == free


def broken(name: str, value: float) -> Any:
    found = simulated(100)
    getattr(found, name)[0, 3] = value
    return found


@pytest.mark.parametrize(("predictions", "macs", "policy", "error", "message"), [
    (simulated(49), MACS, "confidence", DataError, "the val split has 49 samples, early exits need 50"),
    (simulated(100), [1, 2], "confidence", UsageError, "3 exits and 2 segments do not match"),
    (simulated(100), MACS, "margin", UsageError,
     "the exit policy 'margin' needs one class per sample; .* set policy='confidence'"),
    (broken("scores", np.nan), MACS, "confidence", DataError, "an exit has a score of nan, expected 0 to 1"),
    (broken("scores", 1.5), MACS, "confidence", DataError, "an exit has a score of 1.5, expected 0 to 1"),
    (broken("quality", -1), MACS, "confidence", DataError, "an exit has a quality of -1, expected 0 to 1")])
def test_what_cannot_be_calibrated_is_refused(predictions: ExitPredictions, macs: list[int], policy: Any,
                                              error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        calibrate_scores(predictions, macs, ExitCalibration(policy=policy))
