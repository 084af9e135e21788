"""Movement of the logits, against their whole Jacobian."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from edgewright.program import Program


def test_it_is_the_jacobian_of_the_logits_on_average(mixed, mixed_program, mixed_task, scores_of):
    x = next(mixed_task.train.batches(80)).inputs[0].double()
    model = copy.deepcopy(mixed).double()
    maps = model.deep(model.norm(model.first(x)).relu()).relu().detach()

    def logits(gate):
        found = model.last(model.head((maps * gate[:, None, None]).flatten(1)).relu())
        return found - found.mean(dim=1, keepdim=True)

    slopes = jacobian(logits, torch.ones(5, dtype=torch.float64))  # (80, 3, 5)
    want = (slopes.square().sum(dim=(0, 1)) / (2 * 80)).tolist()
    found = np.mean([scores_of(mixed_program, mixed_task, criterion="gauss_newton", seed=seed)
                     ["first.weight"] for seed in range(60)], axis=0)
    assert found == pytest.approx(want, rel=0.06)


def test_labels_do_not_matter(mixed_program, mixed_task, scores_of):
    other = copy.copy(mixed_task)
    other.train = type(mixed_task.train)(
        next(mixed_task.train.batches(80)).inputs, torch.zeros(80, dtype=torch.long), name="train")
    for criterion, same in (("gauss_newton", True), ("fisher", False)):
        found, want = (scores_of(mixed_program, task, criterion=criterion)
                       for task in (other, mixed_task))
        assert (found == want) == same


def test_the_mean_of_the_logits_does_not_matter(mixed_task, scores_of):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.Linear(6, 3))
    with torch.no_grad():
        model[2].weight[:, 2] = 5.0  # moves all logits alike
    found = scores_of(Program.capture(model, torch.zeros(1, 2, 4, 4)), mixed_task,
                      criterion="gauss_newton")["1.weight"]
    assert found[2] == pytest.approx(0, abs=1e-9)
    assert min(found[:2] + found[3:]) > 1e-6
