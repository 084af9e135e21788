"""Features between the files of a staged network, in the order integer convolutions compute in."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from itertools import pairwise
from typing import Final

import onnx
from onnx import helper

_BYTES: Final = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
_PICTURE: Final = 4  # dimensions
_TO_LAST: Final = (0, 2, 3, 1)
_TO_FIRST: Final = (0, 3, 1, 2)
_GIVEN: Final = "features_given"  # no other value of a file is called so: they have numbers
_TAKEN: Final = "features_taken"


def features_last(models: Sequence[bytes]) -> tuple[bytes, ...]:
    """Hand integer pictures on as (N, height, width, channels), from each file to the next.

    ONNX Runtime's integer convolutions compute in that order, and it transposes before and behind
    each run of them: so behind the last of one file and before the first of the next too. The
    transpositions that are written here meet those and cancel; the numbers are the same.
    Floats stay as they are, for their convolutions have an order of their own.

    Args:
        models: ONNX files, each of which takes the last output of the one before.
    """
    files = [onnx.load_from_string(model) for model in models]
    for before, after in pairwise(files):
        given, taken = before.graph.output[-1], after.graph.input[0]
        if _is_integer_picture(given) and _is_convolved(after.graph, taken.name):
            _give_last(before.graph, given)
            _take_last(after.graph, taken)
    return tuple(file.SerializeToString(deterministic=True) for file in files)


def _is_integer_picture(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.elem_type in _BYTES and len(tensor.shape.dim) == _PICTURE


def _is_convolved(graph: onnx.GraphProto, name: str) -> bool:
    """Whether a convolution reads a graph's input, once that is dequantised."""
    reals = {node.output[0] for node in graph.node
             if node.op_type == "DequantizeLinear" and node.input[0] == name}
    return any(node.op_type == "Conv" and node.input[0] in reals for node in graph.node)


def _give_last(graph: onnx.GraphProto, given: onnx.ValueInfoProto) -> None:
    for node in graph.node:
        _rename(node.input, given.name, _GIVEN)
        _rename(node.output, given.name, _GIVEN)
    graph.node.append(helper.make_node("Transpose", [_GIVEN], [given.name], perm=_TO_LAST))
    _reorder(given)


def _take_last(graph: onnx.GraphProto, taken: onnx.ValueInfoProto) -> None:
    for node in graph.node:
        _rename(node.input, taken.name, _TAKEN)
    graph.node.insert(0, helper.make_node("Transpose", [taken.name], [_TAKEN], perm=_TO_FIRST))
    _reorder(taken)


def _rename(names: MutableSequence[str], old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _reorder(value: onnx.ValueInfoProto) -> None:
    """The value's sizes, in the new order."""
    sizes = value.type.tensor_type.shape.dim
    first = [onnx.TensorShapeProto.Dimension.FromString(size.SerializeToString())
             for size in sizes]
    for index, source in enumerate(_TO_LAST):
        sizes[index].CopyFrom(first[source])
