"""Scales of batch norms, and the fallback without a batch norm."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from tests.programs import Mixed

from edgewright.program import Program


def test_score_is_the_absolute_scale(mixed: Mixed,
                                     scores_of: Callable[..., dict[str, list[float]]]) -> None:
    model = copy.deepcopy(mixed)
    with torch.no_grad():
        model.norm.weight[3] *= -1
    found = scores_of(Program.capture(model, torch.zeros(1, 2, 4, 4)), criterion="batch_norm")
    assert found["first.weight"] == pytest.approx(mixed.norm.weight.tolist(), rel=1e-6)


def test_group_without_batch_norm_falls_back_to_l2(mixed_program: Program,
                                                   scores_of: Callable[..., dict[str, list[float]]]) -> None:
    found = scores_of(mixed_program, criterion="batch_norm")["head.weight"]
    assert found == scores_of(mixed_program, criterion="l2")["head.weight"]
