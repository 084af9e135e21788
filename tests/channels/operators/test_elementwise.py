"""What meets element by element is tied together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import nn

from edgewright.channels import ChannelGroups

IMAGE = torch.zeros(1, 3, 8, 8)
TOKENS = torch.zeros(1, 5, 4)


def conv(inputs: Any, outputs: Any, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def convs() -> dict[str, Any]:
    return {"a": conv(3, 8), "b": conv(8, 4), "c": conv(3, 8)}


def _written_on(m: Any, x: Any) -> Any:
    y = m.a(x)
    y += m.c(x)
    y.mul_(2).relu_()
    return m.b(y)


CASES: dict[str, tuple[Any, ...]] = {
    "addition": (lambda m, x: m.b(m.a(x) + m.c(x)), convs, (IMAGE,), {"a.weight": 8}),
    "in_place": (_written_on, convs, (IMAGE,), {"a.weight": 8}),
    "residual": (lambda m, x: m.b(m.a(x) + m.d(m.a(x).relu())),
                 lambda: {**convs(), "d": conv(8, 8)}, (IMAGE,), {"a.weight": 8}),
    "scalar": (lambda m, x: m.b(2 - m.a(x) * 3), convs, (IMAGE,), {"a.weight": 8}),
    "layer_scale": (lambda m, x: m.b(m.a(x) * m.g + m.h), lambda: {
        **convs(), "g": nn.Parameter(torch.rand(8, 1, 1)), "h": nn.Parameter(torch.rand(1))},
        (IMAGE,), {"g": 8}),
    "outer_product": (lambda m, x: m.b(m.a(x).mean(3, keepdim=True) * m.c(x).mean(
        2, keepdim=True)), convs, (IMAGE,), {"a.weight": 8}),
    "one_for_all": (lambda m, x: m.b(m.a(x) * m.d(x)), lambda: {**convs(), "d": conv(3, 1)},
                    (IMAGE,), {"a.weight": 8}),
    "with_the_input": (lambda m, x: m.b(m.a(x) + F.pad(x, (0, 0, 0, 0, 0, 5))), convs, (IMAGE,),
                       {}),
    "maximum": (lambda m, x: m.b(torch.maximum(m.a(x), m.c(x))), convs, (IMAGE,),
                {"a.weight": 8}),
    "where": (lambda m, x: m.b(torch.where(m.a(x) > 0, m.c(x), 0.1 * m.a(x))), convs, (IMAGE,),
              {"a.weight": 8}),
    "lerp": (lambda m, x: m.b(torch.lerp(m.a(x), m.c(x), 0.3)), convs, (IMAGE,),
             {"a.weight": 8}),
    "addcmul": (lambda m, x: m.b(torch.addcmul(m.a(x), m.c(x), m.a(x))), convs, (IMAGE,),
                {"a.weight": 8}),
    "activations": (lambda m, x: m.b(F.gelu(F.silu(F.hardswish(F.mish(F.elu(F.softplus(
        F.hardsigmoid(F.leaky_relu(F.relu6(m.a(x))))))))), approximate="tanh")), convs,
        (IMAGE,), {"a.weight": 8}),
    "more_activations": (lambda m, x: m.b(F.logsigmoid(F.celu(F.selu(F.softsign(F.hardtanh(
        F.tanhshrink(F.softshrink(F.threshold(m.a(x), 0.1, 0))))))))), convs, (IMAGE,),
        {"a.weight": 8}),
    "mathematics": (lambda m, x: m.b((m.a(x).abs() + 1).log().clamp(0, 2).pow(2).sqrt().exp()
                                     .reciprocal().sin().neg().erf().floor() % 3), convs,
                    (IMAGE,), {"a.weight": 8}),
    "slopes": (lambda m, x: m.b(m.p(m.a(x))), lambda: {**convs(), "p": nn.PReLU(8)}, (IMAGE,),
               {"a.weight": 8}),
    "one_slope": (lambda m, x: m.b(m.p(m.a(x))), lambda: {**convs(), "p": nn.PReLU()}, (IMAGE,),
                  {"a.weight": 8}),
    "slope_of_the_input": (lambda m, x: m.b(m.a(m.p(x))), lambda: {**convs(), "p": nn.PReLU(3)},
                           (IMAGE,), {"a.weight": 8}),
    "dropout": (lambda m, x: m.b(m.p(m.a(x))), lambda: {**convs(), "p": nn.Dropout2d()},
                (IMAGE,), {"a.weight": 8}),
    "copies": (lambda m, x: m.b(m.a(x).clone().contiguous().detach().to(torch.float32)
                                + m.c(x).type_as(x)), convs, (IMAGE,), {"a.weight": 8}),
    "constants_like": (lambda m, x: m.b(m.a(x) + torch.ones_like(m.a(x))
                                        + torch.zeros(8, 1, 1) + torch.full((1, 8, 1, 1), 2.0)),
                       convs, (IMAGE,), {"a.weight": 8}),
    "masked_fill": (lambda m, x: m.b(m.a(x).masked_fill(m.c(x) > 0, -1.0)), convs, (IMAGE,),
                    {"a.weight": 8}),
    "two_inputs": (lambda m, x, y: m.b(m.a(x) * m.d(y)[:, :, None, None]),
                   lambda: {**convs(), "d": nn.Linear(5, 8)}, (IMAGE, torch.zeros(1, 5)),
                   {"a.weight": 8}),
    "two_outputs": (lambda m, x: {"a": m.b(m.a(x)), "b": [m.d(m.a(x).relu())]},
                    lambda: {**convs(), "d": conv(8, 2)}, (IMAGE,), {"a.weight": 8}),
    "an_output_on_the_way": (lambda m, x: (m.b(m.a(x)), m.a(x)), convs, (IMAGE,), {}),
    "inputs_in_a_dict": (lambda m, x: m.b(m.a(x["left"]) + m.c(x["right"])), convs,
                         ({"left": IMAGE, "right": IMAGE},), {"a.weight": 8}),
    "used_twice": (lambda m, x: m.b(m.d(m.d(m.a(x)).relu())),
                   lambda: {**convs(), "d": conv(8, 8)}, (IMAGE,), {"a.weight": 8}),
    "tied_weights": (lambda m, x: m.b(F.conv2d(m.d(m.a(x)), m.d.weight) + m.a(x)),
                     lambda: {**convs(), "d": nn.Conv2d(8, 8, 1, bias=False)}, (IMAGE,),
                     {"a.weight": 8}),
    "standardised_weights": (
        lambda m, x: m.b(F.conv2d(m.a(x), m.w - m.w.mean((1, 2, 3), keepdim=True)).relu()),
        lambda: {"a": conv(3, 8), "b": conv(6, 4), "w": nn.Parameter(torch.randn(6, 8, 1, 1))},
        (IMAGE,), {"a.weight": 8, "weight": 6}),
}


@pytest.mark.parametrize("name", CASES)
def test_masked_is_sliced(name: Any, net: type[Net], hold: Callable[..., ChannelGroups]) -> None:
    function, build, inputs, expected = CASES[name]
    found = hold(net(function, **build()), *inputs)
    assert {group.name: len(group.channels) for group in found.groups} == expected
