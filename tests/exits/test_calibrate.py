"""Operating points: what they say of the split is so, and what they promise holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edgewright.core import EXIT_POLICIES, Budget, ExitProfile
from edgewright.errors import DataError, UsageError
from edgewright.exits import CalibratedPoint, EarlyExits, ExitCalibration, calibrate_exits
from edgewright.exits._temperature import expected_calibration_error
from edgewright.pipeline import Recipe
from edgewright.pipeline._assemble import Assembly
from edgewright.pipeline._points import open_at_point, replace_points
from edgewright.program import Program
from edgewright.runtime import Session, Streaks, confidence, exit_scores
from edgewright.task import Task

MACS = [10, 20, 70]
CLASSES = 4


def simulated(count: int, seed: int = 0, *, exits: int = 3,
              skill: tuple[float, ...] = (1.2, 2.0, 3.2),
              overconfident: float = 1.0) -> tuple[Any, ...]:
    """Logits of classifiers that all find hard samples hard, the later ones less so."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, CLASSES, count)
    ease = rng.gamma(1.5, 1.0, size=(count, 1))
    shared = rng.normal(size=(count, CLASSES))
    logits = [overconfident * (np.eye(CLASSES)[targets] * ease * strength
                               + 0.8 * shared + 0.6 * rng.normal(size=(count, CLASSES)))
              for strength in skill[:exits]]
    return [values.astype(np.float32) for values in logits], targets


def route(point: Any, logits: Any) -> Any:
    """The exit each sample leaves at, by the runtime's own scores."""
    left_at = np.full(len(logits[0]), len(logits) - 1)
    streaks = Streaks.begin(logits[0])
    gone = np.zeros(len(left_at), dtype=bool)
    for index, rule in enumerate(point.rules):
        streaks = streaks.then(logits[index]) if index else streaks
        threshold = np.inf if rule.threshold is None else rule.threshold
        leaves = exit_scores(point.policy, rule, logits[index], streaks) >= threshold
        left_at[leaves & ~gone] = index
        gone |= leaves
    return left_at


def hits_of(point: Any, logits: Any, targets: Any) -> Any:
    correct = np.stack([values.argmax(axis=1) == targets for values in logits])
    return correct[route(point, logits), np.arange(len(targets))]


def profile_of(found: CalibratedPoint) -> ExitProfile:
    assert found.point.calibrated is not None
    return found.point.calibrated


@pytest.mark.parametrize("certainty", [None, 0.9])
@pytest.mark.parametrize("policy", EXIT_POLICIES)
def test_the_reported_metrics_match_the_split(policy: Any, certainty: float | None) -> None:
    logits, targets = simulated(2000)
    config = ExitCalibration(policy=policy, confidence_level=certainty, max_drop=0.02, points={"fast": 0.1})
    default, fast = calibrate_exits(logits, targets, MACS, config, split="held out")
    assert (default.point.name, fast.point.name) == ("default", "fast")
    for found in (default, fast):
        left_at = route(found.point, logits)
        shares = np.bincount(left_at, minlength=3) / len(targets)
        assert profile_of(found).shares == pytest.approx(shares.tolist())
        assert found.accuracy == hits_of(found.point, logits, targets).mean()
        assert found.full_accuracy == (logits[-1].argmax(axis=1) == targets).mean()
        assert found.mean_macs == pytest.approx(np.cumsum(MACS)[left_at].mean())
        assert (profile_of(found).split, profile_of(found).samples) == ("held out", 2000)
        assert (found.point.path, found.point.policy) == ((0, 1, 2), policy)
    assert fast.mean_macs <= default.mean_macs
    assert (fast if policy == "patience" else default).mean_macs < 100
    assert default.accuracy >= default.full_accuracy - (0.02 if certainty is None else 0.04)
    assert all(len(rule.gate) == (4 if policy == "gate" else 0) for rule in default.point.rules)


def test_the_deciles_are_of_the_first_exit_at_its_temperature() -> None:
    logits, targets = simulated(500, overconfident=3.0)
    found, = calibrate_exits(logits, targets, MACS, ExitCalibration(policy="entropy"))
    sure = confidence(logits[0], found.point.rules[0].temperature)
    assert profile_of(found).deciles == pytest.approx(
        [np.quantile(sure, tenths / 10) for tenths in range(1, 10)])


@pytest.mark.parametrize("certainty", [None, 0.9])
def test_temperatures_correct_overconfident_exits(certainty: float | None) -> None:
    logits, targets = simulated(4000, overconfident=3.0)
    found, = calibrate_exits(logits, targets, MACS, ExitCalibration(confidence_level=certainty))
    assert all(after < before / 2 for before, after
               in zip(profile_of(found).errors_before, profile_of(found).errors_after, strict=True))
    new, labels = simulated(4000, seed=1, overconfident=3.0)
    for index, rule in enumerate(found.point.rules):
        error = expected_calibration_error(new[index], labels, rule.temperature)
        assert error < 0.03 < expected_calibration_error(new[index], labels)
    if certainty is None:
        assert profile_of(found).errors_before[0] == expected_calibration_error(logits[0], targets)


def test_without_a_confidence_level_there_is_no_guarantee() -> None:
    logits, targets = simulated(500)
    found, = calibrate_exits(logits, targets, MACS, ExitCalibration())
    assert (found.point.guarantee, found.samples_needed) == (None, None)
    assert "confidence" not in found.words


def test_a_guarantee_records_its_samples() -> None:
    logits, targets = simulated(4000)
    found, = calibrate_exits(logits, targets, MACS, ExitCalibration(confidence_level=0.9, max_drop=0.02))
    known = found.point.guarantee
    assert known is not None
    assert (known.epsilon, known.delta, known.samples, known.split) == (0.02, 0.1, 3000, "val")
    assert 0 < known.p_value <= 0.1
    assert profile_of(found).shares[-1] < 0.95
    assert found.words.startswith("default: ")
    assert found.words.endswith("; with confidence 0.9 leaving early costs at most 2.00 %")


def test_the_seed_divides_the_samples() -> None:
    logits, targets = simulated(2000)
    config = ExitCalibration(confidence_level=0.9, max_drop=0.02)
    first, again, other = (calibrate_exits(logits, targets, MACS, config, seed=seed)
                           for seed in (0, 0, 1))
    assert first == again
    assert first[0].point.thresholds != other[0].point.thresholds


def test_too_few_samples_take_no_early_exits_and_report_how_many_are_needed() -> None:
    logits, targets = simulated(200)
    found, = calibrate_exits(logits, targets, MACS, ExitCalibration(confidence_level=0.95, max_drop=0.005))
    assert found.point.thresholds == (None, None)
    assert profile_of(found).shares == (0.0, 0.0, 1.0)
    assert found.accuracy == found.full_accuracy
    assert found.point.guarantee is not None
    assert found.point.guarantee.p_value == 0.0  # nobody leaves: nothing is lost
    assert found.samples_needed is not None
    assert found.samples_needed >= math.log(20) / 0.005 / 0.75
    assert found.words.endswith(
        "no early exits taken; accuracy 90.00 %, without early exits 90.00 %, 100 MACs on average; 150 samples "
        "cannot show that with confidence 0.95 leaving early costs at most 0.50 %: a val split of "
        f"about {found.samples_needed} would suffice")
    many, labels = simulated(2 * found.samples_needed)
    later, = calibrate_exits(many, labels, MACS, ExitCalibration(confidence_level=0.95, max_drop=0.005))
    assert profile_of(later).shares[-1] < 1


def test_exits_that_lose_too_much_are_reported() -> None:
    logits, targets = simulated(2000)
    logits[:2] = [-values for values in logits[:2]]
    found, = calibrate_exits(logits, targets, MACS, ExitCalibration(confidence_level=0.9, max_drop=0.005))
    assert (found.point.thresholds, found.samples_needed) == ((None, None), None)
    assert found.words.endswith("costs at most 0.50 %: even the most confident samples lose too much accuracy")


def test_a_file_without_early_exits_has_one_path() -> None:
    logits, targets = simulated(100)
    found, = calibrate_exits(logits[-1:], targets, [7], ExitCalibration(confidence_level=0.9, max_drop=0.01))
    assert (found.point.path, found.point.rules, found.mean_macs) == ((0,), (), 7)
    assert (profile_of(found).shares, profile_of(found).deciles) == ((1.0,), ())
    assert found.words == (f"default: no early exits taken; accuracy {100 * found.accuracy:.2f} %, without "
                           f"early exits {100 * found.accuracy:.2f} %, 7 MACs on average")


def test_exits_and_segments_must_match() -> None:
    logits, targets = simulated(100)
    with pytest.raises(UsageError, match="3 exits and 2 segments do not match"):
        calibrate_exits(logits, targets, [1, 2], ExitCalibration())


def test_too_few_samples_raise() -> None:
    logits, targets = simulated(10)
    with pytest.raises(DataError, match="the val split has 10 samples, early exits need 50 or more"):
        calibrate_exits(logits, targets, MACS, ExitCalibration())


def test_patience_needs_two_early_exits() -> None:
    logits, targets = simulated(100)
    with pytest.raises(UsageError, match=r"two exits in a row .* this file has one early exit"):
        calibrate_exits(logits[1:], targets, MACS[1:], ExitCalibration(policy="patience"))
    with pytest.raises(UsageError, match=r"patience waits for two exits .* and there is one"):
        EarlyExits(places=1, calibration=ExitCalibration(policy="patience"))


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda logits, targets: ([*logits[:2], logits[2][:-1]], targets),
     r"exit 3 gave logits of shape \(99, 4\) for 100 targets"),
    (lambda logits, targets: ([logits[0].ravel(), *logits[1:]], targets),
     r"exit 1 gave logits of shape \(400,\) for 100 targets"),
    (lambda logits, targets: (logits, targets + 3), "targets go from 3 to 6, exit 1 has 4 classes"),
    (lambda logits, targets: (logits, targets - 1), "targets go from -1 to 2"),
    (lambda logits, targets: ([logits[0], logits[1] * np.nan, logits[2]], targets),
     "exit 2 gave logits that are not finite for 100 of 100 samples")])
def test_invalid_outputs_raise(spoil: Callable[..., Any], message: str) -> None:
    logits, targets = spoil(*simulated(100))
    with pytest.raises(DataError, match=message):
        calibrate_exits(logits, targets, MACS, ExitCalibration())


@pytest.mark.parametrize("certainty", [0.5, 1.0, -1, 2])
def test_a_confidence_level_is_above_one_half_and_below_one(certainty: float) -> None:
    with pytest.raises(UsageError, match=r"confidence_level: Input should be (greater|less) than"):
        ExitCalibration(confidence_level=certainty)


def test_a_drop_of_zero_cannot_be_guaranteed() -> None:
    with pytest.raises(UsageError, match=r"max_drop: no number of samples can show .* costs 0"):
        ExitCalibration(confidence_level=0.9, max_drop=0)
    with pytest.raises(UsageError, match=r"exact: no number of samples"):
        ExitCalibration(confidence_level=0.9, points={"exact": 0.0})
    assert ExitCalibration(max_drop=0, points={"exact": 0.0}).max_drop == 0


def test_points_have_unique_names_and_drops_in_range() -> None:
    with pytest.raises(UsageError, match="the point 'default' is the one of max_drop"):
        ExitCalibration(points={"default": 0.1})
    with pytest.raises(UsageError, match=r"points\.fast: Input should be less than 1"):
        ExitCalibration(points={"fast": 1.5})


@pytest.fixture(scope="module")
def draft(staged: Program, quadrant_task: Task) -> Any:
    """The staged program as a bundle with no early exits taken."""
    return Assembly(task=quadrant_task, budget=Budget(), recipe=Recipe(), exits=None, seed=0,
                    model="small").draft(staged)


@pytest.mark.parametrize("policy", EXIT_POLICIES)
def test_a_session_matches_the_calibration(draft: Any, quadrant_task: Task, policy: Any) -> None:
    (inputs, targets), = [(batch.inputs[0].numpy(), batch.targets.numpy())
                          for batch in quadrant_task.val.batches(1000)]
    logits = [found.outputs[0] for found in Session(draft).run_all_exits(inputs)]
    macs = [segment.macs for segment in draft.manifest.model.segments]
    found = calibrate_exits(logits, targets, macs,
                            ExitCalibration(policy=policy, max_drop=0.02, points={"fast": 0.3}))
    file = replace_points(draft, tuple(calibration.point for calibration in found))
    for calibration in found:
        went = open_at_point(file, calibration.point.name)(inputs)
        shares = np.bincount(went.exit, minlength=3) / len(targets)
        assert shares.tolist() == list(profile_of(calibration).shares)
        assert (went.output.argmax(axis=1) == targets).mean() == calibration.accuracy
        assert np.cumsum(macs)[went.exit].mean() == calibration.mean_macs
    assert profile_of(found[1]).shares[-1] < 0.9


@dataclass(frozen=True)
class Draws:
    """Of many calibrations: the true loss of each, and whether anybody was let out."""

    losses: np.ndarray
    leaving: np.ndarray


@pytest.fixture(scope="module")
def population() -> Any:
    """All there is: a draw with replacement is then i.i.d., and true losses are exact means."""
    return simulated(6_000, seed=7)


def draws(population: Any, config: Any, *, times: int = 200, samples: int = 1000) -> Any:
    logits, targets = population
    full = (logits[-1].argmax(axis=1) == targets).mean()
    losses, leaving = [], []
    for seed in range(times):
        rows = np.random.default_rng(seed).integers(0, len(targets), samples)
        found, = calibrate_exits([values[rows] for values in logits], targets[rows], MACS, config,
                                 seed=seed)
        losses.append(full - hits_of(found.point, logits, targets).mean())
        leaving.append(1 - profile_of(found).shares[-1])
    return Draws(np.array(losses), np.array(leaving))


def test_the_bound_fails_in_at_most_delta_of_200_draws(population: Any) -> None:
    epsilon, delta = 0.01, 0.1
    certified = draws(population, ExitCalibration(confidence_level=1 - delta, max_drop=epsilon))
    tuned = draws(population, ExitCalibration(max_drop=epsilon))
    margin = 3 * math.sqrt(200 * delta * (1 - delta))
    broken, broken_by_tuning = ((found.losses > epsilon).sum() for found in (certified, tuned))
    assert broken <= 200 * delta + margin
    assert broken_by_tuning > 200 * delta + margin
    assert broken_by_tuning > 2 * broken
    assert (certified.leaving > 0).mean() > 0.9  # it is not kept by letting nobody out
    assert certified.leaving.mean() > 0.1
