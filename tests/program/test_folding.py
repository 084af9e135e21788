"""Folding batch norm keeps the function, and leaves alone what it cannot fold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import Tensor, nn

from edgewright.program import Program, fold_batch_norm

IMAGE = torch.zeros(1, 3, 8, 8)


def conv(inputs: Any, outputs: Any, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, 3, **options)


def norms(program: Program) -> Any:
    return sum("batch_norm" in node.name for node in program.calls())


def fold(model: nn.Module, inputs: Any, randomise: Any) -> tuple[Any, ...]:
    """Fold, and hold that the function is the same and the program as it was."""
    program = Program.capture(randomise(model), inputs)
    before = program.graph_module.code
    folded = fold_batch_norm(program)
    for batch in (1, 5):
        x = torch.randn(batch, *inputs.shape[1:], dtype=inputs.dtype)
        torch.testing.assert_close(folded.run(x), program.run(x), rtol=1e-4, atol=1e-5)
    assert program.graph_module.code == before
    return program, folded


@pytest.mark.parametrize(("model", "inputs"), [
    (nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)), IMAGE),
    (nn.Sequential(conv(3, 4, bias=False), nn.BatchNorm2d(4, affine=False)), IMAGE),
    (nn.Sequential(conv(3, 6, groups=3, bias=False), nn.BatchNorm2d(6, eps=0.1)), IMAGE),
    (nn.Sequential(conv(3, 4, padding="same", bias=False), nn.BatchNorm2d(4)), IMAGE),
    (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), torch.zeros(1, 3, 9)),
    (nn.Sequential(nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4)), torch.zeros(1, 2, 3, 3, 3)),
    (nn.Sequential(nn.ConvTranspose1d(3, 4, 3), nn.BatchNorm1d(4)), torch.zeros(1, 3, 9)),
    (nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2, bias=False), nn.BatchNorm2d(4)), IMAGE),
    (nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=2), nn.BatchNorm2d(6)),
     torch.zeros(1, 4, 8, 8)),
    (nn.Sequential(nn.ConvTranspose3d(2, 4, 2), nn.BatchNorm3d(4)), torch.zeros(1, 2, 3, 3, 3)),
    (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), torch.zeros(1, 4)),
    (nn.Sequential(nn.ConvTranspose2d(3, 6, 2, groups=3, bias=False), nn.BatchNorm2d(6)), IMAGE),
    (nn.Sequential(nn.ConvTranspose1d(4, 6, 3, groups=2), nn.BatchNorm1d(6)), torch.zeros(1, 4, 9)),
])
def test_a_norm_after_its_own_layer_is_folded(model: Any, inputs: Any,
                                              randomise: Callable[..., nn.Module]) -> None:
    program, folded = fold(model, inputs, randomise)
    assert norms(folded) == 0
    assert sorted(folded.state_dict()) == ["0.bias", "0.weight"]
    assert {value.dtype for value in folded.state_dict().values()} == {inputs.dtype}
    assert folded.costs().macs == program.costs().macs


def test_folding_against_the_formula() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1, eps=0.0))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([[2.0, 4.0]]))
        model.get_parameter("0.bias").fill_(5.0)
        model.get_parameter("1.weight").fill_(3.0)
        model.get_parameter("1.bias").fill_(7.0)
        model.get_buffer("1.running_mean").fill_(1.0)
        model.get_buffer("1.running_var").fill_(4.0)
    state = fold_batch_norm(Program.capture(model, torch.zeros(1, 2))).state_dict()
    assert state["0.weight"].tolist() == [[3.0, 6.0]]  # times 3 / sqrt(4)
    assert state["0.bias"].tolist() == [(5 - 1) * 1.5 + 7]


def test_resnet20_folds_whole(resnet20_program: Program) -> None:
    folded = fold_batch_norm(resnet20_program)
    assert (norms(resnet20_program), norms(folded)) == (19, 0)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(folded.run(x), resnet20_program.run(x), rtol=1e-3, atol=1e-4)
    channels = 7 * 16 + 6 * 32 + 6 * 64  # a scale and a shift less, a bias more
    assert folded.costs().parameters == 269_722 - channels


@pytest.mark.parametrize("forward", [
    lambda m, x: m.n(m.a(x)) + m.a(x).relu() * 0 + m.n(m.a(x)),       # a weight read twice
    lambda m, x: sum((m.n(y) + y) for y in [m.a(x)]),                 # a layer read twice
    lambda m, x: m.n(m.a(x).relu()),                                  # not right after a layer
    lambda m, x: F.batch_norm(m.a(x), None, None, training=True),     # no running statistics
])
def test_what_cannot_be_folded_stays(forward: Callable[..., Any], net: type[Net],
                                     randomise: Callable[..., nn.Module]) -> None:
    model = net(forward, a=conv(3, 4), n=nn.BatchNorm2d(4))
    program, folded = fold(model, IMAGE, randomise)
    assert norms(folded) == norms(program) > 0
    assert folded.state_dict().keys() == program.state_dict().keys()


def test_a_norm_over_another_dimension_than_the_layers_stays(randomise: Callable[..., nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))  # over the 5 of (N, 5, 4)
    _, folded = fold(model, torch.zeros(1, 5, 4), randomise)
    assert norms(folded) == 1


def test_layers_with_one_weight_keep_it(net: type[Net],
                                        randomise: Callable[..., nn.Module]) -> None:
    model = net(lambda m, x: m.m(m.a(x)) + m.n(m.b(x)), a=conv(3, 4), b=conv(3, 4),
                m=nn.BatchNorm2d(4), n=nn.BatchNorm2d(4))
    model.b.weight = model.a.weight
    _, folded = fold(model, IMAGE, randomise)
    assert norms(folded) == 2


def test_a_bias_of_another_use_is_not_overwritten(randomise: Callable[..., nn.Module]) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
            self.bias = nn.Parameter(torch.randn(4, 1, 1))
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(F.conv2d(x, self.weight)) * self.bias

    _, folded = fold(Shifted(), IMAGE, randomise)
    assert norms(folded) == 0
    assert sorted(folded.state_dict()) == ["bias", "bias_1", "weight"]


def test_a_folded_program_trains(small_program: Program) -> None:
    module = fold_batch_norm(small_program).module(train=True)
    module(torch.randn(4, 3, 8, 8)).sum().backward()
    gradients = {name: parameter.grad is not None for name, parameter in module.named_parameters()}
    assert gradients == dict.fromkeys(["0.weight", "0.bias", "5.weight", "5.bias"], True)
