"""Bit widths of quantized values, read off their dequantization."""

from __future__ import annotations

from typing import Any, Final

from torch.fx import Graph, Node

from edgewright.graph import ops
from edgewright.graph._facts import get_fact
from edgewright.graph._nodes import argument, calls, is_dequantization

FLOAT_BITS: Final = 32


def bits_of(node: Node) -> int:
    """Bits of the integers that a dequantization reads; 32 if ``node`` is not a dequantization.

    They follow from the limits of the integers, unless the call has the fact ``bits``: a binary
    grid has the limits of two bits without the lowest integer.
    """
    low = argument(node, "quant_min") if is_dequantization(node) else None
    if low is None:
        return FLOAT_BITS
    fact = get_fact(node, "bits")
    return int(fact or (int(argument(node, "quant_max")) - int(low)).bit_length())


def weight_bits_of(layer: Node) -> int:
    """Bits of a layer's weight, from the first dequantization between layer and stored tensor."""
    source: Any = ops.weight_operand(layer)
    while isinstance(source, Node) and source.op == "call_function":
        if is_dequantization(source):
            return bits_of(source)
        source = source.args[0]
    return FLOAT_BITS


def stored_bits(graph: Graph) -> dict[str, int]:
    """Bits per element of every stored tensor that is dequantized, by name."""
    return {str(node.args[0].target): bits_of(node) for node in calls(graph)
            if is_dequantization(node) and isinstance(node.args[0], Node)
            and node.args[0].op == "get_attr"}
