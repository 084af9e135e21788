"""A program is a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn

from edgewright.errors import ModelError
from edgewright.program import Program


def test_a_copy_shares_nothing(small_program: Program) -> None:
    twin = small_program.copy()
    for value in twin.graph_module.state_dict().values():
        value.zero_()
    assert all(float(value.abs().sum()) > 0 for value in small_program.state_dict().values())
    assert twin.graph is not small_program.graph
    assert (twin.exits, twin.example_inputs) == (0, small_program.example_inputs)


def test_with_state_does_not_change_the_original(small_program: Program) -> None:
    state = {name: value * 2 for name, value in small_program.state_dict().items()}
    before = {name: value.clone() for name, value in small_program.state_dict().items()}
    doubled = small_program.with_state(state)
    torch.testing.assert_close(doubled.state_dict(), state)
    torch.testing.assert_close(small_program.state_dict(), before)


@pytest.mark.parametrize(("change", "message"), [
    (lambda state: state.pop("5.bias"), "5.bias is missing"),
    (lambda state: state.update({"9.weight": torch.zeros(1)}), "9.weight is unknown"),
    (lambda state: state.update({"5.bias": torch.zeros(6)}), r"5.bias has shape \(6,\), expected \(5,\)"),
])
def test_with_state_names_mismatches(small_program: Program, change: Callable[..., Any],
                                     message: str) -> None:
    state = small_program.state_dict()
    change(state)
    with pytest.raises(ModelError, match="the weights do not match the program: " + message):
        small_program.with_state(state)


def test_run_computes_no_gradients(small_program: Program) -> None:
    assert not small_program.run(torch.randn(2, 3, 8, 8)).requires_grad


def test_calls_are_the_operators_in_order(small_program: Program) -> None:
    assert [node.name for node in small_program.calls()] == [
        "conv2d", "batch_norm", "relu", "adaptive_avg_pool2d", "flatten", "linear"]
    assert not small_program.is_quantized


def test_dead_code_is_not_captured(net: type[Net]) -> None:
    model = net(lambda m, x: (m.b(x), m.a(x))[1], a=nn.Linear(4, 2), b=nn.Linear(4, 3))
    program = Program.capture(model, torch.zeros(1, 4))
    assert sorted(program.state_dict()) == ["a.bias", "a.weight"]


@torch.library.custom_op("edgewright_program_tests::dequantize_x", mutates_args=())
def own_operator(x: torch.Tensor) -> torch.Tensor:
    """Quantises nothing, whatever its name says."""
    return x * 2


own_operator.register_fake(torch.empty_like)


def test_custom_operators_do_not_make_a_program_quantized(net: type[Net]) -> None:
    model = net(lambda m, x: m.quantize(own_operator(m.dequantize_per_tensor(x))),
                quantize=nn.Linear(4, 3), dequantize_per_tensor=nn.Linear(4, 4))
    program = Program.capture(model, torch.zeros(2, 4))
    assert not program.is_quantized
    assert [layer.weight_bits for layer in program.costs().layers] == [32, 32]


def test_quantization_operators_make_a_program_quantized(net: type[Net]) -> None:
    quantized = torch.ops.quantized_decomposed
    grid = 0.1, 0, -128, 127, torch.int8
    model = net(lambda m, x: m.a(quantized.dequantize_per_tensor.default(
        quantized.quantize_per_tensor.default(x, *grid), *grid)), a=nn.Linear(4, 3))
    assert Program.capture(model, torch.zeros(2, 4)).is_quantized
