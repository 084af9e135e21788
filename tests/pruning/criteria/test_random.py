"""The control."""

from __future__ import annotations


def test_it_is_the_seeds(mixed_program, scores_of):
    drawn = scores_of(mixed_program, criterion="random", seed=3)
    assert drawn == scores_of(mixed_program, criterion="random", seed=3)
    assert drawn != scores_of(mixed_program, criterion="random", seed=4)
    values = [value for scores in drawn.values() for value in scores]
    assert len(set(values)) == len(values) == 11
    assert all(0 <= value < 1 for value in values)
