"""Which dimensions of a stored tensor a layer reads its input by; the others it puts out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from torch.fx import Graph, Node

from edgewright.graph._nodes import argument, calls, named, op_name
from edgewright.graph._shapes import shape_of, tensor_of

_PRODUCTS: Final = frozenset({"matmul", "mm", "bmm"})
_CELLS: Final = ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
# Positions of weights to the dimensions that read the input.
_LAYERS: Final[dict[str, dict[int, set[int]]]] = {
    "linear": {1: {1}}, "embedding": {0: {0}}, "bilinear": {2: {1, 2}},
    **{cell: {2: {1}, 3: {1}} for cell in _CELLS}}


def input_dims(graph: Graph) -> dict[str, frozenset[int]]:
    """For every stored tensor that layers have for weights, its dimensions all of them read by.

    Of a convolution or linear layer that is the second, of a transposed convolution, an embedding
    and the right side of a matrix product the first. Scales, biases, positions and constants have
    none.
    """
    found: dict[str, frozenset[int]] = {}
    for node in calls(graph):
        for operand, dims in _weights(node):
            stored = _stored(operand)
            if stored is not None:
                found[stored] = found.get(stored, dims) & dims
    return found


def _weights(node: Node) -> Iterable[tuple[Any, frozenset[int]]]:
    """The operands of a call that may be weights, with the dimensions that read its input."""
    name = op_name(node)
    if name.startswith("conv"):
        is_transposed = "transpose" in name or bool(named(node, "transposed", False))
        yield argument(node, 1), frozenset({0 if is_transposed else 1})
    elif name in _PRODUCTS:
        left, right = argument(node, 0), argument(node, 1)
        yield left, frozenset({len(shape_of(left)) - 1})
        yield right, frozenset({max(len(shape_of(right)) - 2, 0)})
    else:
        for place, dims in _LAYERS.get(name, {}).items():
            yield argument(node, place), frozenset(dims)


def _stored(operand: Any) -> str | None:
    """The stored tensor that a weight is, or is computed from at the same shape."""
    node = operand
    while isinstance(node, Node) and node.op == "call_function" and node.args:
        node = node.args[0]
    if not isinstance(node, Node) or node.op != "get_attr" or tensor_of(node) is None:
        return None
    return str(node.target) if shape_of(node) == shape_of(operand) else None
