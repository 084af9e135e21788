"""Which dimensions of a stored weight are indexed by the layer's input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from torch.fx import Graph, Node

from edgewright.graph import ops
from edgewright.graph._nodes import argument, calls
from edgewright.graph._recurrence import read_recurrent_layer
from edgewright.graph._shapes import shape_of, tensor_of

# For each layer, the arguments that are weights, and their input dimensions.
_LAYERS: Final[dict[Any, dict[str, set[int]]]] = {
    ops.LINEAR: {"weight": {1}}, ops.EMBEDDING: {"weight": {0}}, ops.BILINEAR: {"weight": {1, 2}},
    **{cell: {"w_ih": {1}, "w_hh": {1}} for cell in ops.RECURRENT_CELLS}}


def find_input_dims(graph: Graph) -> dict[str, frozenset[int]]:
    """The input dimensions of every stored weight, by name.

    That is the second dimension for a convolution or linear layer, and the first for a transposed
    convolution, an embedding and the right operand of a matrix product. A weight shared by several
    layers keeps the dimensions that are input dimensions in all of them. Scales, biases, position
    embeddings and constants have none.
    """
    found: dict[str, frozenset[int]] = {}
    for node in calls(graph):
        for operand, dims in _weights(node):
            stored = _stored_name(operand)
            if stored is not None:
                found[stored] = found.get(stored, dims) & dims
    return found


def _weights(node: Node) -> Iterable[tuple[Any, frozenset[int]]]:
    """The operands of a call that may be weights, with their input dimensions."""
    if ops.is_convolution(node):
        yield argument(node, "weight"), frozenset({1 - ops.output_dim(node)})
    elif node.target in ops.MATRIX_PRODUCTS:
        left, right = ops.factors(node)
        yield left, frozenset({len(shape_of(left)) - 1})
        yield right, frozenset({max(len(shape_of(right)) - 2, 0)})
    elif node.target in ops.RECURRENT_LAYERS:
        for direction in read_recurrent_layer(node).directions:
            yield direction.input_weight, frozenset({1})
            yield direction.hidden_weight, frozenset({1})
    else:
        for name, dims in _LAYERS.get(node.target, {}).items():
            yield argument(node, name), frozenset(dims)


def _stored_name(operand: Any) -> str | None:
    """Name of the stored tensor that an operand reads, directly or through same-shape calls."""
    node = operand
    while isinstance(node, Node) and node.op == "call_function" and node.args:
        node = node.args[0]
    if not isinstance(node, Node) or node.op != "get_attr" or tensor_of(node) is None:
        return None
    return str(node.target) if shape_of(node) == shape_of(operand) else None
