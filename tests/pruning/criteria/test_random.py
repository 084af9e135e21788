"""The control."""

from __future__ import annotations

from collections.abc import Callable

from edgewright.program import Program


def test_it_is_the_seeds(mixed_program: Program,
                         scores_of: Callable[..., dict[str, list[float]]]) -> None:
    drawn = scores_of(mixed_program, criterion="random", seed=3)
    assert drawn == scores_of(mixed_program, criterion="random", seed=3)
    assert drawn != scores_of(mixed_program, criterion="random", seed=4)
    values = [value for scores in drawn.values() for value in scores]
    assert len(set(values)) == len(values) == 11
    assert all(0 <= value < 1 for value in values)
