"""Which parameters decay, and how far a step moves each."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from edgewright.errors import UsageError
from edgewright.quantization.scheme import Grid
from edgewright.quantization.simulation import FakeQuantizer
from edgewright.training import Training
from edgewright.training._parameter_groups import make_optimizer

WEIGHT = Grid(4, signed=True, symmetric=True, axis=0, narrow=True, role="weight")
BINARY = Grid(1, signed=False, symmetric=True, role="activation")


def quantizer(grid: Grid, scale: float, shape: tuple[int, ...] = ()) -> FakeQuantizer:
    made = FakeQuantizer(grid, shape, learned_range="lsq")
    made.scale.data.fill_(scale)
    made.least_scale.fill_(scale / 1024)
    return made


def take_step(optimizer: Optimizer, rate: float) -> None:
    """With gradients of 1, at the rate that the loop would give each group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["size"]
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def step(module: nn.Module, config: Training) -> dict[str, float]:
    """How far one step with gradients of 1 moves each parameter, without its decay."""
    optimizer = make_optimizer(module, config.replace(weight_decay=0.0))
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    take_step(optimizer, config.lr)
    return {name: float((before[name] - value.detach()).abs().max())
            for name, value in module.named_parameters() if value.requires_grad}


def test_adamw_steps_of_scales_are_relative_to_their_size() -> None:
    module = nn.ModuleDict({"linear": nn.Linear(3, 3), "small": quantizer(WEIGHT, 0.004, (3,)),
                            "binary": quantizer(BINARY, 0.5)})
    moved = step(module, Training(optimizer="adamw", lr=0.01))
    assert moved["linear.weight"] == pytest.approx(0.01, rel=1e-3)
    assert moved["small.scale"] == pytest.approx(0.01 / 256, rel=1e-3)
    assert moved["binary.scale"] == pytest.approx(0.005, rel=1e-3)
    assert moved["binary.shift"] == pytest.approx(0.005, rel=1e-3)


def test_sgd_steps_of_scales_follow_their_gradient() -> None:
    module = nn.ModuleDict({"linear": nn.Linear(3, 3), "small": quantizer(WEIGHT, 0.004, (3,))})
    moved = step(module, Training(lr=0.01))
    assert list(moved.values()) == [pytest.approx(0.01, rel=1e-3)] * 3


def test_adamw_does_not_push_a_small_scale_to_its_bound() -> None:
    module = quantizer(BINARY, 0.004)
    optimizer = make_optimizer(module, Training(optimizer="adamw", lr=0.01))
    for _ in range(50):
        take_step(optimizer, 0.01)
    assert 0.001 < float(module.effective_scale().detach()) < 0.003


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_matrices_decay_but_vectors_and_scales_do_not(optimizer: str) -> None:
    grid = Grid(4, signed=True, symmetric=True, axis=0, narrow=True, group=2, role="weight")
    module = nn.ModuleDict({"linear": nn.Linear(4, 3), "grouped": quantizer(grid, 0.1, (3, 2))})
    found = make_optimizer(module, Training(optimizer=optimizer, weight_decay=0.25))
    decays = {id(p): group["weight_decay"] for group in found.param_groups
              for p in group["params"]}
    assert decays[id(module["linear"].weight)] == 0.25
    assert decays[id(module["linear"].bias)] == 0.0
    assert decays[id(module["grouped"].scale)] == 0.0


def test_frozen_parameters_are_in_no_group() -> None:
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    found = make_optimizer(module, Training())
    assert [p for group in found.param_groups for p in group["params"]] == [module.weight]
    with pytest.raises(UsageError, match="no parameter that requires a gradient"):
        make_optimizer(module.requires_grad_(False), Training())
