"""Ranges taken while running: the integers of ONNX's DynamicQuantizeLinear."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgewright.errors import UsageError
from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.quantization import Grid, Quantization, quantize
from edgewright.quantization.simulation._dynamic import DynamicQuantizer
from edgewright.runtime import OnnxEngine

GRID = Grid(8, signed=False, symmetric=False, role="activation")
DYNAMIC = Quantization(activations="dynamic")
ops = torch.ops.quantized_decomposed


def slow(x: Any) -> Any:
    """The operator's definition, number by number."""
    low, high = min(0.0, *x.flatten().tolist()), max(0.0, *x.flatten().tolist())
    scale = (high - low) / 255
    zero_point = min(255, max(0, round(-low / scale)))
    rounded = [min(255, max(0, round(value / scale) + zero_point)) for value in x.flatten().tolist()]
    return torch.tensor([(value - zero_point) * scale for value in rounded]).reshape(x.shape)


@pytest.mark.parametrize("shift", [-9.0, -0.3, 0.0, 7.0])
def test_each_input_has_a_grid_of_its_own(shift: float) -> None:
    quantizer = DynamicQuantizer(GRID)
    for size in (0.01, 100.0):
        x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * size + shift
        torch.testing.assert_close(quantizer(x), slow(x), rtol=1e-5, atol=size * 1e-5)


def test_nothing_but_zeros_stays_zeros() -> None:
    assert torch.equal(DynamicQuantizer(GRID)(torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.fixture(scope="module")
def attention(net: Any) -> Any:
    torch.manual_seed(0)
    model = net(lambda m, x: m.h((m.q(x) + m.k(x)) * m.v(x)), q=nn.Linear(6, 6, bias=False),
                k=nn.Linear(6, 6), v=nn.Linear(6, 6), h=nn.Linear(6, 3)).eval()
    return Program.capture(model, torch.zeros(2, 5, 6))


def test_a_value_that_several_layers_read_is_quantised_once(attention: Any) -> None:
    quantized = quantize(attention, None, DYNAMIC)
    chosen = [node for node in quantized.calls() if node.target is ops.choose_qparams.tensor]
    assert [node.all_input_nodes[0].op for node in chosen] == ["placeholder", "call_function"]
    assert {str(value.dtype) for name, value in quantized.state_dict().items()
            if name.endswith("bias")} == {"torch.float32"}


def test_the_runtime_multiplies_integers_and_agrees(attention: Any) -> None:
    quantized = quantize(attention, None, DYNAMIC)
    content = to_onnx(quantized)
    assert content.count(b"MatMulInteger") == 4
    for size in (0.1, 30.0):
        x = torch.randn(9, 5, 6) * size
        want, exact = quantized.run(x), attention.run(x)
        have = torch.from_numpy(OnnxEngine(content).run((x.numpy(),))[0])
        assert float((want - exact).norm() / exact.norm()) < 0.03
        assert float((have - want).norm() / want.norm()) < 1e-3


def test_a_program_without_linear_layers_is_refused(net: Any) -> None:
    program = Program.capture(net(lambda m, x: m.c(x), c=nn.Conv1d(3, 3, 1)), torch.zeros(2, 3, 4))
    with pytest.raises(UsageError, match=r"the scheme fits no layer of the program, so there is "
                                         r"nothing to quantize: c \(it is so small that "
                                         r"integers would save no bytes\)"):
        quantize(program, None, DYNAMIC)
