"""Bit widths follow from the limits and facts of dequantize calls, whatever the storage type."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor, nn

from edgewright.graph import set_fact
from edgewright.program import Program

quantized = torch.ops.quantized_decomposed


class Layer(nn.Module):
    """A linear layer of 8 inputs and 6 outputs, its weight on one grid, its input on another."""

    def __init__(self, weight: Any, limits: Any, activation: tuple[int, ...] = (0, 255),
                 group: Any = None) -> None:
        super().__init__()
        groups = (6,) if group is None else (6, 8 // group)
        self.register_buffer("weight", torch.tensor(weight, dtype=torch.int8).expand(6, 8).clone())
        self.register_buffer("scale", torch.full(groups, 0.1))
        self.register_buffer("zero", torch.zeros(groups, dtype=torch.int64))
        self.limits, self.activation, self.group = limits, activation, group

    def forward(self, x: Tensor) -> Tensor:
        if self.activation is not None:
            grid = (0.1, 1, *self.activation, torch.uint8)
            x = quantized.dequantize_per_tensor(quantized.quantize_per_tensor(x, *grid), *grid)
        kind = (*self.limits, torch.int8)
        stored = (self.weight, self.scale, self.zero)
        weight = (quantized.dequantize_per_channel(*stored, 0, *kind) if self.group is None else
                  quantized.dequantize_per_channel_group(*stored, *kind, self.group, torch.float32))
        return nn.functional.linear(x, weight)


def costs(*args: Any, binary: Collection[str] = (), **kwargs: Any) -> Any:
    """Costs of a layer; the dequantizations named in ``binary`` are marked as of 1 bit."""
    program = Program.capture(Layer(*args, **kwargs), torch.zeros(1, 8))
    for call in program.calls():
        if call.name in binary:
            set_fact(call, "bits", 1)
    return program.costs()


BINARY, TERNARY = [1, -1] * 4, [1, 0] * 4
WEIGHT, ACTIVATION = "dequantize_per_channel", "dequantize_per_tensor"


@pytest.mark.parametrize(("weight", "limits", "bits"), [
    (7, (-128, 127), 8), (7, (-127, 127), 8), (7, (-8, 7), 4), (7, (-7, 7), 4), (3, (-4, 3), 3),
    (3, (-3, 3), 3), (1, (-2, 1), 2), (TERNARY, (-1, 1), 2), (BINARY, (-1, 1), 1),
])
def test_bits_of_a_weight(weight: Any, limits: tuple[int, ...], bits: int) -> None:
    found = costs(weight, limits, binary=(WEIGHT,) if weight is BINARY else ())
    (layer,) = found.layers
    assert (layer.weight_bits, layer.activation_bits, layer.bits) == (bits, 8, 8)
    assert found.weight_bytes - found.packed_bytes == 48 - 48 * bits // 8
    assert found.macs_by_bits() == {8: 48}


@pytest.mark.parametrize(("limits", "bits"), [((0, 255), 8), ((0, 15), 4), ((0, 7), 3), ((0, 3), 2),
                                              ((0, 2), 1)])
def test_bits_of_an_activation(limits: tuple[int, ...], bits: int) -> None:
    binary = (ACTIVATION,) if bits == 1 else ()
    (layer,) = costs(7, (-8, 7), activation=limits, binary=binary).layers
    assert (layer.weight_bits, layer.activation_bits, layer.bits) == (4, bits, 8)


def test_bits_do_not_depend_on_the_stored_values() -> None:
    (layer,) = costs(BINARY, (-1, 1)).layers
    assert layer.weight_bits == 2
    (layer,) = costs(TERNARY, (-1, 1), binary=(WEIGHT,)).layers
    assert layer.weight_bits == 1


@pytest.mark.parametrize("group", [None, 4])
def test_weight_only_quantization_stores_few_bits_and_computes_in_float(group: int | None) -> None:
    found = costs(7, (-8, 7), activation=None, group=group)
    (layer,) = found.layers
    assert (layer.weight_bits, layer.activation_bits, layer.bits) == (4, 32, 32)
    assert found.macs_by_bits() == {32: 48}
    assert found.parameters == 48
    assert found.weight_bytes - found.packed_bytes == 24


def test_float_layers_have_32_bits() -> None:
    found = Program.capture(nn.Linear(8, 6), torch.zeros(1, 8)).costs()
    (layer,) = found.layers
    assert (layer.weight_bits, layer.activation_bits, layer.bits) == (32, 32, 32)
    assert found.packed_bytes == found.weight_bytes == 4 * (48 + 6)
