"""Reproduction errors, against one regression per channel at every step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.programs import Mixed

from edgewright.program import Program
from edgewright.pruning.criteria._redundancy import eliminate_backward
from edgewright.task import Task

RIDGE = 1e-3


def eliminate_by_regressions(products: Any) -> Any:
    """Backward elimination with every regression solved from its normal equations."""
    remaining = list(range(len(products)))
    ridged = products + RIDGE * np.diag(products).mean() * np.eye(len(products))
    scores = [0.0] * len(products)
    while remaining:
        errors = {}
        for channel in remaining:
            others = [other for other in remaining if other != channel]
            across = ridged[channel, others]
            errors[channel] = ridged[channel, channel] - across @ np.linalg.solve(
                ridged[np.ix_(others, others)], across)
        removed = min(errors, key=errors.__getitem__)
        scores[removed] = errors[removed]
        remaining.remove(removed)
    return scores


@given(st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_elimination_matches_regressions_at_every_step(count: Any, seed: Any) -> None:
    samples = np.random.default_rng(seed).normal(size=(8, count)) @ np.random.default_rng(
        seed + 1).normal(size=(count, count))
    products = samples.T @ samples
    want = sorted(eliminate_by_regressions(products))
    assert sorted(eliminate_backward(products)) == pytest.approx(want, rel=1e-5)


def test_score_is_computed_from_layer_inputs(mixed: Mixed, mixed_program: Program,
                                             mixed_task: Task,
                                             scores_of: Callable[..., dict[str, list[float]]]) -> None:
    x = next(mixed_task.train.batches(80)).inputs[0]
    with torch.no_grad():
        maps = mixed.deep(mixed.norm(mixed.first(x)).relu()).relu().double()
    channels = maps.movedim(1, 0).flatten(1).numpy()
    norms = mixed.head.weight.detach().reshape(6, 5, 16).norm(dim=(0, 2)).numpy()
    channels = channels * norms[:, None]
    found = scores_of(mixed_program, mixed_task, criterion="redundancy")["first.weight"]
    products = channels @ channels.T / channels.shape[1]
    assert sorted(found) == pytest.approx(sorted(eliminate_by_regressions(products)), rel=1e-4)


def test_one_of_two_equal_channels_scores_low(mixed: Mixed, mixed_task: Task,
                                              scores_of: Callable[..., dict[str, list[float]]]) -> None:
    model = copy.deepcopy(mixed)
    with torch.no_grad():
        for tensor in (model.first.weight, *model.deep.parameters(),
                       *model.norm.buffers(), *model.norm.parameters()):
            if tensor.ndim:
                tensor[4] = tensor[1]
    scores = scores_of(Program.capture(model, torch.zeros(1, 2, 4, 4)), mixed_task,
                       criterion="redundancy")["first.weight"]
    assert min(scores[1], scores[4]) < 0.05 * max(scores[1], scores[4])
