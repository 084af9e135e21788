"""Distances between filters, against loops over pairs of filters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.programs import Mixed

from edgewright.program import Program


def test_score_is_the_summed_distance_to_all_filters_of_the_group(mixed: Mixed, mixed_program: Program,
                                                                  scores_of: Callable[..., dict[str, list[float]]]) -> None:
    found = scores_of(mixed_program, criterion="geometric_median")
    rows = {"first.weight": ["first.weight", "deep.weight"], "head.weight": ["head.weight"]}
    for group, names in rows.items():
        filters = torch.cat([mixed.get_parameter(name).detach().flatten(1) for name in names],
                            dim=1)
        want = [sum(float((one - other).norm()) for other in filters) for one in filters]
        assert found[group] == pytest.approx(want, rel=1e-4)
