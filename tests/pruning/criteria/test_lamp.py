"""LAMP, against its definition."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgewright.program import Program


def test_score_is_the_fraction_among_channels_that_are_no_smaller(mixed_program: Program,
                                                                  scores_of: Callable[..., dict[str, list[float]]]) -> None:
    found = scores_of(mixed_program, criterion="lamp")
    for group, sizes in scores_of(mixed_program, criterion="magnitude").items():
        want = [size / sum(other for other in sizes if other >= size) for size in sizes]
        assert found[group] == pytest.approx(want, rel=1e-9)
        assert max(found[group]) == 1
