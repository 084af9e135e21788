"""Norms whose statistics rest, and whose gains point up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgewright.capture import trainable
from edgewright.program import Program
from edgewright.quantization.simulation import (
    FreezeNorms,
    KeepGainsPositive,
    gains_of_layers,
    orient_norms,
)
from edgewright.training import Step


class Normed(nn.Module):
    """A layer with a bias and one without, each with a norm; and a norm that reads a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.one_norm = nn.BatchNorm2d(6)
        self.two = nn.Conv2d(6, 6, 3, padding=1, groups=3, bias=False)
        self.two_norm = nn.BatchNorm2d(6)
        self.sum_norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)
        self.head_norm = nn.BatchNorm1d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one_norm(self.one(x)).relu()
        x = self.sum_norm(x + self.two_norm(self.two(x)))
        return self.head_norm(self.head(x.mean((2, 3))))


@pytest.fixture
def program() -> Program:
    torch.manual_seed(0)
    model = Normed()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.get_buffer("running_mean").normal_()
            module.get_buffer("running_var").uniform_(0.5, 2)
            if module.weight is not None:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return Program.capture(model.eval(), torch.randn(2, 3, 8, 8))


def test_orienting_keeps_the_function_to_the_bit(program: Program) -> None:
    x = torch.randn(16, 3, 8, 8)
    state = program.graph_module.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    oriented = orient_norms(program)
    assert torch.equal(oriented.run(x), program.run(x))
    after = oriented.graph_module.state_dict()
    assert (before["one_norm.weight"] < 0).any()
    assert (after["one_norm.weight"] >= 0).all()
    assert (after["two_norm.weight"] >= 0).all()
    assert torch.equal(after["sum_norm.weight"], before["sum_norm.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())


def test_gains_are_those_of_a_layers_own_norm(program: Program) -> None:
    assert gains_of_layers(program) == {"one.weight": "one_norm.weight",
                                        "two.weight": "two_norm.weight"}


def test_statistics_rest_after_their_share(program: Program) -> None:
    module = trainable(program.graph_module)
    hook = FreezeNorms(0.5)
    hook.start(module)
    x = torch.randn(16, 3, 8, 8)
    moved = []
    for index in range(4):
        module.train()
        before = module.get_buffer("one_norm.running_mean").clone()
        module(x)
        moved.append(not torch.equal(before, module.get_buffer("one_norm.running_mean")))
        hook.after_step(Step(index, 4, 0.1))
        module.eval()
    assert moved == [True, True, False, False]
    expected = module(x)
    module.train()
    assert torch.equal(module(x), expected)


def test_frozen_norms_still_learn(program: Program) -> None:
    module = trainable(program.graph_module)
    hook = FreezeNorms(0.0)
    hook.start(module)
    module.train()
    module(torch.randn(4, 3, 8, 8)).square().sum().backward()
    gradient = module.get_parameter("one_norm.weight").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_a_resumed_run_stays_frozen(program: Program) -> None:
    first, second = FreezeNorms(0.5), FreezeNorms(0.5)
    assert not first.state()["frozen"]
    first.after_step(Step(1, 4, 0.1))
    module = trainable(program.graph_module)
    second.start(module)
    second.load_state(first.state())
    module.train()
    before = module.get_buffer("two_norm.running_var").clone()
    module(torch.randn(4, 3, 8, 8))
    assert torch.equal(module.get_buffer("two_norm.running_var"), before)


def test_gains_stay_positive(program: Program) -> None:
    module = trainable(orient_norms(program).graph_module)
    hook = KeepGainsPositive(gains_of_layers(program).values())
    hook.start(nn.Sequential(module))
    with torch.no_grad():
        module.get_parameter("one_norm.weight").sub_(100)
        module.get_parameter("sum_norm.weight").fill_(-1)
    hook.after_step(Step(0, 1, 0.1))
    assert (module.get_parameter("one_norm.weight") > 0).all()
    assert (module.get_parameter("sum_norm.weight") == -1).all()
