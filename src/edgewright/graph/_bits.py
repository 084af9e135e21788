"""Bit widths of quantized values, derived from the limits of their dequantization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor
from torch.fx import Graph, Node

from edgewright.graph import ops
from edgewright.graph._nodes import argument, calls, is_dequantization

FLOAT_BITS: Final = 32


def bits_of(node: Node, tensors: Mapping[str, Tensor]) -> int:
    """Bits of the integers that a dequantization reads; 32 if ``node`` is not a dequantization.

    The limits -1 and 1 (unsigned: 0 and 2) are used both for one bit and for two bits without the
    lowest integer. If a zero is stored, there are two bits.
    """
    low = argument(node, "quant_min") if is_dequantization(node) else None
    if low is None:
        return FLOAT_BITS
    steps = int(argument(node, "quant_max")) - int(low)
    if steps != 2:
        return steps.bit_length()
    source = node.args[0]
    stored = tensors.get(str(source.target)) if isinstance(source, Node) else None
    return 2 if stored is not None and bool((stored == int(low) + 1).any()) else 1


def weight_bits_of(layer: Node, tensors: Mapping[str, Tensor]) -> int:
    """Bits of a layer's weight, from the first dequantization between layer and stored tensor."""
    name = ops.weight_argument(layer)
    source: Any = None if name is None else argument(layer, name)
    while isinstance(source, Node) and source.op == "call_function":
        if is_dequantization(source):
            return bits_of(source, tensors)
        source = source.args[0]
    return FLOAT_BITS


def stored_bits(graph: Graph, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Bits per element of every stored tensor that is dequantized, by name."""
    return {str(node.args[0].target): bits_of(node, tensors) for node in calls(graph)
            if is_dequantization(node) and isinstance(node.args[0], Node)
            and node.args[0].op == "get_attr"}
