"""Which dimensions of a stored tensor a layer reads its input by; the others it puts out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from torch.fx import Graph, Node

from edgewright.graph import ops
from edgewright.graph._nodes import argument, calls
from edgewright.graph._shapes import shape_of, tensor_of

# The weights by their argument, and the dimensions that read the input.
_LAYERS: Final[dict[Any, dict[str, set[int]]]] = {
    ops.LINEAR: {"weight": {1}}, ops.EMBEDDING: {"weight": {0}}, ops.BILINEAR: {"weight": {1, 2}},
    **{cell: {"w_ih": {1}, "w_hh": {1}} for cell in ops.RECURRENT_CELLS}}


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
    if ops.is_convolution(node):
        yield argument(node, "weight"), frozenset({1 - ops.output_dim(node)})
    elif node.target in ops.MATRIX_PRODUCTS:
        left, right = ops.factors(node)
        yield left, frozenset({len(shape_of(left)) - 1})
        yield right, frozenset({max(len(shape_of(right)) - 2, 0)})
    else:
        for name, dims in _LAYERS.get(node.target, {}).items():
            yield argument(node, name), frozenset(dims)


def _stored(operand: Any) -> str | None:
    """The stored tensor that a weight is, or is computed from at the same shape."""
    node = operand
    while isinstance(node, Node) and node.op == "call_function" and node.args:
        node = node.args[0]
    if not isinstance(node, Node) or node.op != "get_attr" or tensor_of(node) is None:
        return None
    return str(node.target) if shape_of(node) == shape_of(operand) else None
