"""Masks are not quantized: they cost no accuracy, and infinity does not stop calibration."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.quantization import Quantization, place, quantize, resolve
from edgewright.quantization.placement._fused_ops import find_fused_ops
from edgewright.runtime import OnnxEngine
from edgewright.task import Task

INF = float("inf")
LOWEST = torch.finfo(torch.float32).min


class Attention(nn.Module):
    """One layer of attention over six positions, masked as a function says."""

    def __init__(self, mask: Any) -> None:
        super().__init__()
        self.mask = mask
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 3)
        self.table = nn.Parameter(0.2 * torch.randn(11, 2))
        self.register_buffer("causal", torch.full((6, 6), -INF).triu(1))
        self.register_buffer("places", torch.arange(6)[:, None] - torch.arange(6) + 5)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, -1)).transpose(1, 2)
                   for layer in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        y = self.mask(self, scores, valid[:, None, None, :]).softmax(-1) @ v
        return self.head(self.norm(x + self.o(y.transpose(1, 2).flatten(2))).mean(1))


FORMS = {
    "none": lambda m, a, valid: a + 0 * valid.sum(),
    "made while running": lambda m, a, valid: a + torch.full((6, 6), -INF).triu(1) + 0 * valid,
    "lowest number": lambda m, a, valid: a + torch.full((6, 6), LOWEST).triu(1) + 0 * valid,
    "an input": lambda m, a, valid: a + (1.0 - valid) * LOWEST,
    "an input and a table": lambda m, a, valid: (
        a + ((1.0 - valid) * -1e9 + m.causal.clamp(min=-1e4))),
    "where": lambda m, a, valid: torch.where(valid > 0, a, -INF) + m.causal[:1, :1],
    "relative positions": lambda m, a, valid: a + (1.0 - valid) * -1e9 + (
        m.table[m.places.view(-1)].view(6, 6, 2).permute(2, 0, 1)[None]),
}


def data(count: int, seed: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 7, (count, 1), generator=generator)
    return (torch.randn(count, 6, 32, generator=generator),
            (torch.arange(6)[None] < lengths).float())


def sqnr(want: Any, have: Any) -> Any:
    return float(10 * torch.log10(want.square().sum() / (want - have).square().sum()))


@pytest.mark.parametrize("form", FORMS)
def test_masked_attention_is_as_accurate_as_unmasked_attention(form: Any) -> None:
    torch.manual_seed(0)
    program = Program.capture(Attention(FORMS[form]), data(2, 0))
    task = Task((data(64, 1), torch.arange(64) % 3), test=(data(8, 2), torch.arange(8) % 3))
    quantized = quantize(program, task)
    inputs = data(16, 3)
    have, = OnnxEngine(to_onnx(quantized)).run(tuple(value.numpy() for value in inputs))
    assert sqnr(program.run(*inputs), torch.from_numpy(have)) > 32
    torch.testing.assert_close(torch.from_numpy(have), quantized.run(*inputs), rtol=1e-4,
                               atol=1e-5)


class Net(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.position = nn.Parameter(torch.randn(4, 6))
        self.register_buffer("fixed", torch.randn(4, 6))

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.c(self.function(self, self.a(x), self.b(x), ids).relu())


def softmax_by_hand(scores: Any) -> Any:
    return (scores - scores.amax(-1, keepdim=True)).exp()


@pytest.mark.parametrize(("function", "found"), [
    (lambda m, a, b, i: a + b, ["add"]),
    (lambda m, a, b, i: a * b, ["mul"]),
    (lambda m, a, b, i: a + m.position[:4].unsqueeze(0), ["add"]),  # learned
    (lambda m, a, b, i: (a + b).softmax(-1) + (a + b), ["add_1", "add_2"]),
    (lambda m, a, b, i: (a + b).sigmoid() * a, ["mul"]),
    (lambda m, a, b, i: a + m.fixed[:4], []),
    (lambda m, a, b, i: a + (i[..., None] > 0).float() * -1e9, []),
    (lambda m, a, b, i: (a + b).softmax(-1), []),
    (lambda m, a, b, i: ((a + b) * 0.5).masked_fill(i[..., None] > 0, -INF).softmax(-1), []),
    (lambda m, a, b, i: (a + b).amax(1, keepdim=True) * 1.0, []),
    (lambda m, a, b, i: softmax_by_hand(a + b), []),
    (lambda m, a, b, i: F.scaled_dot_product_attention(
        a[:, None], b[:, None], b[:, None], attn_mask=(a @ b.mT + a @ a.mT)[:, None])[:, 0], []),
])
def test_which_additions_and_multiplications_are_quantized(function: Callable[..., Any],
                                                           found: list[Any] | list[str]) -> None:
    program = Program.capture(Net(function), (torch.randn(2, 4, 6), torch.zeros(2, 4).long()))
    units = find_fused_ops(program.graph)
    assert [unit.node.name for unit in units if unit.kind == "elementwise"] == found


def test_sums_followed_by_relu_are_never_masks() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.c((self.a(x) + self.b(x)).relu().amax(1))

    program = Program.capture(Pooled(), torch.randn(2, 4, 6))
    points = {point.name for point in place(program, resolve(Quantization())).activations}
    assert {"linear", "linear_1", "relu"} <= points
