"""Multiply-accumulate counts of each operator, for one sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from torch.fx import Node

from edgewright.graph import ops
from edgewright.graph._einsum import parse_einsum
from edgewright.graph._nodes import argument
from edgewright.graph._shapes import shape_of

Shape = tuple[int, ...]
_MATRIX: Final = 2


ShapeOf = Callable[[Node], Shape]


def count_macs(node: Node, shape: ShapeOf = shape_of) -> int:
    """Count the MACs of one call for one sample, with shapes from ``shape``; 0 if it has none."""
    rule = _MACS.get(node.target)
    return 0 if rule is None else rule(node, shape)


def has_macs(node: Node) -> bool:
    """Whether multiply-accumulates are counted for a call, that is, for a layer or a product."""
    return node.target in _MACS


def _conv_macs(node: Node, shape: ShapeOf) -> int:
    """Per output position and channel: the kernel size times its input channels."""
    return math.prod(shape(node)) * math.prod(shape(argument(node, "weight"))[1:])


def _conv_transpose_macs(node: Node, shape: ShapeOf) -> int:
    """Per input position and channel: the kernel size times its output channels."""
    return (math.prod(shape(argument(node, "input")))
            * math.prod(shape(argument(node, "weight"))[1:]))


def _linear_macs(node: Node, shape: ShapeOf) -> int:
    return math.prod(shape(node)) * shape(argument(node, "input"))[-1]


def _product_macs(node: Node, shape: ShapeOf) -> int:
    """Per output element: the size of the reduced dimension, the last one of the left factor."""
    left, _ = ops.factors(node)
    return math.prod(shape(node)) * shape(left)[-1]


def _attention_macs(node: Node, shape: ShapeOf) -> int:
    query, key, value = (shape(argument(node, name)) for name in ("query", "key", "value"))
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _bilinear_macs(node: Node, shape: ShapeOf) -> int:
    first, second = (shape(argument(node, name)) for name in ("input1", "input2"))
    return math.prod(shape(node)) * first[-1] * second[-1]


def _cell_macs(node: Node, shape: ShapeOf) -> int:
    """One step of a recurrent cell: the input times ``w_ih`` and the state times ``w_hh``."""
    inputs = shape(argument(node, "input"))
    weights = (argument(node, "w_ih"), argument(node, "w_hh"))
    return math.prod(inputs[:-1]) * sum(math.prod(shape(weight)) for weight in weights)


def _recurrent_macs(node: Node, shape: ShapeOf) -> int:
    """Per step, every weight once: of all gates, directions and layers."""
    steps = math.prod(shape(argument(node, "input"))[:-1])  # times the batch size of 1
    weights = [shape(tensor) for tensor in argument(node, "params")]
    return steps * sum(math.prod(sizes) for sizes in weights if len(sizes) == _MATRIX)


def _einsum_macs(node: Node, shape: ShapeOf) -> int:
    """One per combination of indices; 0 for a single operand, which is only reordered or summed."""
    equation, operands = argument(node, "equation"), argument(node, "tensors")
    shapes = [shape(operand) for operand in operands]
    inputs, _ = parse_einsum(str(equation), [len(sizes) for sizes in shapes])
    sizes = {letter: size for letters, part in zip(inputs, shapes, strict=True)
             for letter, size in zip(letters, part, strict=True)}
    return math.prod(sizes.values()) * (len(operands) - 1)


_MACS: Final[dict[Any, Callable[[Node, ShapeOf], int]]] = {
    **dict.fromkeys(ops.DIRECT_CONVOLUTIONS, _conv_macs),
    **dict.fromkeys(ops.TRANSPOSED_CONVOLUTIONS, _conv_transpose_macs),
    **dict.fromkeys(ops.MATRIX_PRODUCTS | ops.ADDED_PRODUCTS, _product_macs),
    **dict.fromkeys(ops.RECURRENT_CELLS, _cell_macs),
    **dict.fromkeys(ops.RECURRENT_LAYERS, _recurrent_macs),
    ops.LINEAR: _linear_macs,
    ops.ATTENTION: _attention_macs,
    ops.BILINEAR: _bilinear_macs,
    ops.EINSUM: _einsum_macs,
}
