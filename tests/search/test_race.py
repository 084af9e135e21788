"""The rounds of a race fit into its time."""

from __future__ import annotations

import pytest

from edgewright.search._race import Round, plan_race


@pytest.mark.parametrize("seconds", [20.0, 60.0, 200.0, 1_000.0, 10_000.0])
@pytest.mark.parametrize("build", [1.0, 8.0])
def test_rounds_fit_into_the_time(seconds: float, build: float) -> None:
    rounds = plan_race(seconds, build, candidates=9, survivors=3)
    total = sum(one.candidates * (build + one.training_seconds) for one in rounds)
    assert total <= seconds * 1.01
    assert [one.candidates for one in rounds] == sorted(
        (one.candidates for one in rounds), reverse=True)


def test_survivors_are_trained_longer() -> None:
    first, second = plan_race(1_000.0, 1.0, candidates=9, survivors=3)
    assert (first.candidates, second.candidates) == (9, 3)
    assert second.training_seconds == pytest.approx(3 * first.training_seconds, abs=0.2)


def test_no_time_for_a_race() -> None:
    assert plan_race(5.0, 10.0, candidates=9, survivors=3) == [Round(candidates=1, training_seconds=0.0)]


def test_a_small_race_has_one_round() -> None:
    rounds = plan_race(100.0, 1.0, candidates=2, survivors=3)
    assert [one.candidates for one in rounds] == [2]
