"""How many multiply-accumulates each operator computes for one sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch.fx import Node

from edgewright.graph._einsum import letters_of
from edgewright.graph._nodes import argument
from edgewright.graph._shapes import shape_of

aten = torch.ops.aten

_ATTENTION: Final = aten.scaled_dot_product_attention.default


Shape = tuple[int, ...]


ShapeOf = Callable[[Node], Shape]


def count_macs(node: Node, shape: ShapeOf = shape_of) -> int:
    """Multiply-accumulates of one call for one sample, with shapes from ``shape``; 0 if none."""
    rule = _MACS.get(node.target)
    return 0 if rule is None else rule(node, shape)


def _input_shapes(node: Node, shape: ShapeOf, count: int = 2) -> list[Shape]:
    return [shape(arg) for arg in node.args[:count] if isinstance(arg, Node)]


def multiplies(node: Node) -> bool:
    """Whether a call is a layer or a product: what multiply-accumulates are counted for."""
    return node.target in _MACS


def _conv_macs(node: Node, shape: ShapeOf) -> int:
    """Per output position and channel: the kernel's extent times its input channels."""
    weight = _input_shapes(node, shape)[1]
    return math.prod(shape(node)) * math.prod(weight[1:])


def _conv_transpose_macs(node: Node, shape: ShapeOf) -> int:
    """Per input position and channel: the kernel's extent times its output channels."""
    inputs, weight = _input_shapes(node, shape)
    return math.prod(inputs) * math.prod(weight[1:])


def _matmul_macs(node: Node, shape: ShapeOf) -> int:
    """Per output element: the length of the summed dimension, the first operand's last."""
    return math.prod(shape(node)) * _input_shapes(node, shape)[0][-1]


def _addmm_macs(node: Node, shape: ShapeOf) -> int:
    return math.prod(shape(node)) * _input_shapes(node, shape, 3)[1][-1]


def _attention_macs(node: Node, shape: ShapeOf) -> int:
    query, key = _input_shapes(node, shape)
    value = _input_shapes(node, shape, 3)[2]
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _bilinear_macs(node: Node, shape: ShapeOf) -> int:
    first, second = _input_shapes(node, shape)
    return math.prod(shape(node)) * first[-1] * second[-1]


def _cell_macs(node: Node, shape: ShapeOf) -> int:
    """One step of a recurrent cell: its input by one weight, its state by the other."""
    inputs, weights = shape(argument(node, 0)), (argument(node, 2), argument(node, 3))
    return math.prod(inputs[:-1]) * sum(math.prod(shape(weight)) for weight in weights)


def _einsum_macs(node: Node, shape: ShapeOf) -> int:
    """Every combination of indices once; nothing where one operand is only reordered or summed."""
    equation: Any = node.args[0]
    operands: Any = node.args[1]
    shapes = [shape(operand) for operand in operands]
    inputs, _ = letters_of(str(equation), [len(sizes) for sizes in shapes])
    sizes = {letter: size for letters, part in zip(inputs, shapes, strict=True)
             for letter, size in zip(letters, part, strict=True)}
    return math.prod(sizes.values()) * (len(operands) - 1)


_MACS: Final[dict[Any, Callable[[Node, ShapeOf], int]]] = {
    aten.conv1d.default: _conv_macs,
    aten.conv2d.default: _conv_macs,
    aten.conv3d.default: _conv_macs,
    aten.conv1d.padding: _conv_macs,
    aten.conv2d.padding: _conv_macs,
    aten.conv3d.padding: _conv_macs,
    aten.conv_transpose1d.default: _conv_transpose_macs,
    aten.conv_transpose2d.input: _conv_transpose_macs,
    aten.conv_transpose3d.input: _conv_transpose_macs,
    aten.linear.default: _matmul_macs,
    aten.matmul.default: _matmul_macs,
    aten.mm.default: _matmul_macs,
    aten.bmm.default: _matmul_macs,
    aten.addmm.default: _addmm_macs,
    aten.baddbmm.default: _addmm_macs,
    _ATTENTION: _attention_macs,
    aten.bilinear.default: _bilinear_macs,
    aten.einsum.default: _einsum_macs,
    **dict.fromkeys([aten.lstm_cell.default, aten.gru_cell.default, aten.rnn_tanh_cell.default,
                     aten.rnn_relu_cell.default], _cell_macs),
}
