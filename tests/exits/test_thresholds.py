"""The path of thresholds: strict to loose, cheap first, and the point within a drop."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.exits._predictions import ExitPredictions
from edgewright.exits._thresholds import find_cheapest_within, find_threshold_path

NEVER = np.inf
FEW = settings(max_examples=60, deadline=None, derandomize=True)


def walk(answers: Any, macs: Any, values: Any) -> tuple[Any, ...]:
    """Share at each exit, accuracy and mean MACs, one sample at a time."""
    exits, total = answers.quality.shape
    counts, hits, spent = [0] * exits, 0.0, 0
    for sample in range(total):
        for index in range(exits):
            spent += macs[index]
            if index == exits - 1 or answers.scores[index, sample] >= values[index]:
                counts[index] += 1
                hits += float(answers.quality[index, sample])
                break
    return [count / total for count in counts], hits / total, spent / total


def outcome(answers: Any, macs: Any, values: Any) -> tuple[Any, ...]:
    left_at = answers.left_at(values)
    shares = np.bincount(left_at, minlength=len(macs)) / len(left_at)
    return shares.tolist(), answers.quality_at(values).mean(), np.cumsum(macs)[left_at].mean()


def drawn(seed: int, count: int, exits: Any, decimals: int = 6) -> Any:
    """ExitPredictions that are right more often the surer they are, and the later."""
    rng = np.random.default_rng(seed)
    scores = rng.random((exits, count)).round(decimals)
    skill = np.concatenate([scores, np.ones((1, count))])
    later = np.linspace(0.5, 0.95, exits + 1)[:, None]
    return ExitPredictions(scores, (rng.random((exits + 1, count))
                                    < later * (0.3 + 0.7 * skill)).astype(np.float64))


@st.composite
def cases(draw: Any, samples: tuple[int, ...] = (1, 40),
          exits: tuple[int, ...] = (1, 3)) -> tuple[Any, ...]:
    count, early = draw(st.integers(*samples)), draw(st.integers(*exits))
    answers = drawn(draw(st.integers(0, 10_000)), count, early, draw(st.sampled_from([1, 6])))
    return answers, [draw(st.integers(1, 50)) for _ in range(early + 1)]


@FEW
@given(cases())
def test_the_path_lowers_thresholds_from_no_samples_leaving_to_all(case: Any) -> None:
    answers, macs = case
    path = find_threshold_path(answers, macs)
    assert (path[0] == NEVER).all()
    assert (path[-1] == answers.scores.min(axis=1)).all()
    assert ((path[1:] < path[:-1]).sum(axis=1) == 1).all()
    assert (path[1:] <= path[:-1]).all()
    costs = [outcome(answers, macs, values)[2] for values in path]
    assert costs[0] == sum(macs)
    assert costs[-1] == macs[0]
    assert all(later <= earlier for earlier, later in itertools.pairwise(costs))


@FEW
@given(cases(), st.integers(0, 10_000))
def test_predictions_match_a_sample_by_sample_loop(case: Any, seed: Any) -> None:
    answers, macs = case
    path = find_threshold_path(answers, macs)
    values = path[seed % len(path)]
    shares, accuracy, mean_macs = walk(answers, macs, values)
    have = outcome(answers, macs, values)
    assert have[0] == pytest.approx(shares)
    assert have[1:] == pytest.approx((accuracy, mean_macs))
    full = answers.quality[-1].mean()
    assert answers.costs(values).mean() == pytest.approx(full - accuracy)


@FEW
@given(cases(), st.sampled_from([0.0, 0.02, 0.1, 0.5]))
def test_the_chosen_point_is_the_cheapest_of_the_path_that_is_allowed(case: Any, drop: Any) -> None:
    answers, macs = case
    path = find_threshold_path(answers, macs)
    chosen = walk(answers, macs, find_cheapest_within(answers, path, drop))
    walks = [walk(answers, macs, values) for values in path]
    allowed = [cost for _, accuracy, cost in walks if accuracy >= walks[0][1] - drop - 1e-9]
    assert chosen[1] >= walks[0][1] - drop - 1e-9
    assert chosen[2] == pytest.approx(min(allowed))


@FEW
@given(cases(samples=(1, 6), exits=(1, 2)))
def test_the_path_is_bounded_by_the_optimum_and_reaches_it_without_a_limit(case: Any) -> None:
    answers, macs = case
    grids = [sorted({*scores.tolist(), NEVER}) for scores in answers.scores]
    best = min(walk(answers, macs, values)[2] for values in itertools.product(*grids))
    chosen = find_cheapest_within(answers, find_threshold_path(answers, macs), 1.0)
    assert walk(answers, macs, chosen)[2] == pytest.approx(best)


def test_free_savings_are_taken_first() -> None:
    """The second exit is always right, the first is wrong where it is least sure."""
    scores = np.array([[0.9, 0.8, 0.2, 0.1]] * 2)
    answers = ExitPredictions(scores, np.array([[1.0, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]))
    chosen = find_cheapest_within(answers, find_threshold_path(answers, [1, 1, 8]), 0.0)
    assert answers.left_at(chosen).tolist() == [0, 0, 1, 1]


def test_an_always_wrong_exit_is_never_taken() -> None:
    answers = ExitPredictions(np.array([[0.9, 0.8]]), np.array([[0.0, 0.0], [1.0, 1.0]]))
    path = find_threshold_path(answers, [1, 99])
    assert find_cheapest_within(answers, path, 0.0).tolist() == [NEVER]
    assert answers.left_at(path[-1]).tolist() == [0, 0]


def test_without_exits_there_is_nothing_to_choose() -> None:
    answers = ExitPredictions(np.empty((0, 2)), np.array([[1.0, 0.0]]))
    path = find_threshold_path(answers, [7])
    assert path.shape == (1, 0)
    assert find_cheapest_within(answers, path, 0.0).tolist() == []
    assert answers.left_at([]).tolist() == [0, 0]


def test_streak_thresholds_are_whole_numbers_from_two() -> None:
    scores = np.array([[1, 1, 1], [1, 2, 2], [1, 3, 1]], dtype=float)
    answers = ExitPredictions(scores, np.ones((4, 3)))
    path = find_threshold_path(answers, [1, 1, 1, 1], streaks=True)
    assert path.tolist() == [[NEVER] * 3, [NEVER, 2, NEVER], [NEVER, 2, 3]]


def test_a_long_path_has_one_step_per_quantile() -> None:
    answers = drawn(0, 10_000, 3)
    path = find_threshold_path(answers, [10, 10, 10, 10])
    assert path.shape == (3 * 64 + 1, 3)
    quantiles = np.quantile(answers.scores[0], np.arange(64) / 64)
    assert set(path[1:, 0]) <= {NEVER, *quantiles}


def test_a_subset_of_predictions_behaves_independently() -> None:
    answers = drawn(1, 20, 2)
    rows = np.array([3, 5, 7])
    assert answers.of(rows).left_at([0.5, 0.4]).tolist() == answers.left_at([0.5, 0.4])[rows].tolist()
