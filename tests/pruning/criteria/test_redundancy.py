"""What cannot be reproduced, against a regression a channel at every step."""

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
from edgewright.pruning.criteria._redundancy import eliminate
from edgewright.task import Task

RIDGE = 1e-3


def slow(products: Any) -> Any:
    """Backward elimination with every regression solved from its normal equations."""
    alive = list(range(len(products)))
    ridged = products + RIDGE * np.diag(products).mean() * np.eye(len(products))
    scores = [0.0] * len(products)
    while alive:
        left = {}
        for one in alive:
            others = [other for other in alive if other != one]
            across = ridged[one, others]
            left[one] = ridged[one, one] - across @ np.linalg.solve(
                ridged[np.ix_(others, others)], across)
        gone = min(left, key=left.__getitem__)
        scores[gone] = left[gone]
        alive.remove(gone)
    return scores


@given(st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_elimination_is_a_regression_at_every_step(count: Any, seed: Any) -> None:
    samples = np.random.default_rng(seed).normal(size=(8, count)) @ np.random.default_rng(
        seed + 1).normal(size=(count, count))
    products = samples.T @ samples
    assert sorted(eliminate(products)) == pytest.approx(sorted(slow(products)), rel=1e-5)


def test_it_is_taken_from_what_a_layer_reads(mixed: Mixed, mixed_program: Program,
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
    assert sorted(found) == pytest.approx(sorted(slow(products)), rel=1e-4)


def test_of_two_channels_alike_one_is_kept(mixed: Mixed, mixed_task: Task,
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
