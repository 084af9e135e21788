"""Apply data movement of dequantized constants to the integers instead."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgewright.exporters.onnx._constants import constant_array

_MOVERS: Final = frozenset({"Transpose", "Slice", "Concat", "Split", "Reshape", "Unsqueeze",
                            "Squeeze", "Flatten", "Identity"})


class QuantizedConstant(NamedTuple):
    """A quantized constant; its real numbers are ``(values - zero_points) * scales``.

    Attributes:
        values: int8.
        scales: float32, of the same shape.
        zero_points: int8, of the same shape; None if all are zero.
        source: The constant in the file that holds ``values``; None if they were moved.
    """

    values: NDArray[Any]
    scales: NDArray[Any]
    zero_points: NDArray[Any] | None
    source: ir.Value | None


def find_moved_integers(graph: ir.Graph) -> dict[ir.Value, QuantizedConstant]:
    """Find all values that are dequantized constants, possibly after data movement.

    Lookup tables are not moved, so that the file stores them only once.
    """
    known: dict[ir.Value, QuantizedConstant] = {}
    for node in graph:
        if (found := _dequantized_constant(node)) is not None:
            known[node.outputs[0]] = found
        elif node.op_type in _MOVERS:
            known |= _move_integers(graph, node, known)
    return known


def is_lookup(node: ir.Node) -> bool:
    """Whether a node looks up whole rows of a table."""
    return node.op_type == "Gather" and node.attributes.get_int("axis", 0) == 0


def collapse_repeats(array: NDArray[Any]) -> NDArray[Any]:
    """Shrink every dimension with equal entries to size 1; the result broadcasts to ``array``.

    Example:
        >>> collapse_repeats(np.array([[1, 1], [2, 2]])).tolist()
        [[1], [2]]
    """
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if (array == first).all():
            array = first
    return np.ascontiguousarray(array)


def _dequantized_constant(node: ir.Node) -> QuantizedConstant | None:
    if node.op_type != "DequantizeLinear" or node.attributes.get_int("block_size", 0) > 0:
        return None
    values, scales, zeros = (constant_array(value) for value in (*node.inputs, None)[:3])
    if values is None or scales is None or values.dtype != np.int8:
        return None
    shape = [1] * values.ndim
    if scales.ndim:
        shape[node.attributes.get_int("axis", 1)] = -1
    zero_points = None if zeros is None or not zeros.any() else np.broadcast_to(
        zeros.reshape(shape), values.shape)
    return QuantizedConstant(values, np.broadcast_to(scales.reshape(shape), values.shape),
                             zero_points, node.inputs[0])


def _move_integers(graph: ir.Graph, node: ir.Node, known: dict[ir.Value, QuantizedConstant],
           ) -> dict[ir.Value, QuantizedConstant]:
    """Apply a data movement operator to the integers, if all its inputs are quantized constants."""
    sources = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    moved = [known.get(source) for source in sources if source is not None]
    rest = [constant_array(value) for value in node.inputs[len(sources):]]
    given = [value for value in node.inputs[len(sources):] if value is not None]
    if (not moved or None in moved or len([one for one in rest if one is not None]) != len(given)
            or any(is_lookup(use.node) for source in sources if source is not None
                   for use in source.uses())):
        return {}
    found = [one for one in moved if one is not None]
    values, scales = (_run(graph, node, [getattr(one, name) for one in found], rest)
                      for name in ("values", "scales"))
    zeros: list[Any] = [None] * len(values)
    if any(one.zero_points is not None for one in found):
        zeros = _run(graph, node, [np.zeros_like(one.values) if one.zero_points is None
                                   else one.zero_points for one in found], rest)
    return {out: QuantizedConstant(integers, steps, zero_points, None)
            for out, integers, steps, zero_points
            in zip(node.outputs, values, scales, zeros, strict=True)}


def _run(graph: ir.Graph, node: ir.Node, moved: list[NDArray[Any]],
         rest: list[NDArray[Any] | None]) -> list[NDArray[Any]]:
    proto = ir.to_proto(node)
    arrays = dict(zip(proto.input, [*moved, *rest], strict=True))
    evaluator = ReferenceEvaluator(onnx.helper.make_model(
        onnx.helper.make_graph(
            [proto], "moved",
            [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(
                array.dtype), array.shape) for name, array in arrays.items() if array is not None],
            [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output]),
        opset_imports=[onnx.helper.make_opsetid("", graph.opset_imports[""])]))
    return list(evaluator.run(None, {name: np.ascontiguousarray(array)
                                     for name, array in arrays.items() if array is not None}))
