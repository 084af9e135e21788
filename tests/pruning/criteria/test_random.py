"""Random scores."""

from __future__ import annotations

from collections.abc import Callable

from edgewright.program import Program


def test_scores_depend_on_the_seed_alone(mixed_program: Program,
                                         scores_of: Callable[..., dict[str, list[float]]]) -> None:
    found = scores_of(mixed_program, criterion="random", seed=3)
    assert found == scores_of(mixed_program, criterion="random", seed=3)
    assert found != scores_of(mixed_program, criterion="random", seed=4)
    values = [value for scores in found.values() for value in scores]
    assert len(set(values)) == len(values) == 11
    assert all(0 <= value < 1 for value in values)
