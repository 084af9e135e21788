"""Pass features between the files of a staged network in channels-last order."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from itertools import pairwise
from typing import Final

import onnx
from onnx import helper

_BYTES: Final = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
_IMAGE_RANK: Final = 4  # dimensions
_TO_LAST: Final = (0, 2, 3, 1)
_TO_FIRST: Final = (0, 3, 1, 2)
_OUTPUT_NAME: Final = "features_given"  # unique, because all other values have numbers as names
_INPUT_NAME: Final = "features_taken"


def use_channels_last_features(models: Sequence[bytes]) -> tuple[bytes, ...]:
    """Pass integer images as (N, height, width, channels) from each file to the next.

    ONNX Runtime's integer convolutions compute in that order, and it transposes before and after
    each chain of them, which includes the end of one file and the start of the next. The
    transpositions inserted here cancel with those; the numbers do not change. Floating-point
    features are not changed, because their convolutions use a different layout.

    Args:
        models: ONNX files, each of which reads the last output of the previous one.
    """
    files = [onnx.load_from_string(model) for model in models]
    for before, after in pairwise(files):
        given, taken = before.graph.output[-1], after.graph.input[0]
        if _is_integer_image(given) and _is_convolved(after.graph, taken.name):
            _transpose_output(before.graph, given)
            _transpose_input(after.graph, taken)
    return tuple(file.SerializeToString(deterministic=True) for file in files)


def _is_integer_image(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.elem_type in _BYTES and len(tensor.shape.dim) == _IMAGE_RANK


def _is_convolved(graph: onnx.GraphProto, name: str) -> bool:
    """Whether a convolution reads a graph's input after dequantization."""
    reals = {node.output[0] for node in graph.node
             if node.op_type == "DequantizeLinear" and node.input[0] == name}
    return any(node.op_type == "Conv" and node.input[0] in reals for node in graph.node)


def _transpose_output(graph: onnx.GraphProto, given: onnx.ValueInfoProto) -> None:
    for node in graph.node:
        _rename(node.input, given.name, _OUTPUT_NAME)
        _rename(node.output, given.name, _OUTPUT_NAME)
    graph.node.append(helper.make_node("Transpose", [_OUTPUT_NAME], [given.name], perm=_TO_LAST))
    _reorder(given)


def _transpose_input(graph: onnx.GraphProto, taken: onnx.ValueInfoProto) -> None:
    for node in graph.node:
        _rename(node.input, taken.name, _INPUT_NAME)
    graph.node.insert(0, helper.make_node("Transpose", [taken.name], [_INPUT_NAME], perm=_TO_FIRST))
    _reorder(taken)


def _rename(names: MutableSequence[str], old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _reorder(value: onnx.ValueInfoProto) -> None:
    """Reorder the sizes of a value to channels last."""
    sizes = value.type.tensor_type.shape.dim
    first = [onnx.TensorShapeProto.Dimension.FromString(size.SerializeToString())
             for size in sizes]
    for index, source in enumerate(_TO_LAST):
        sizes[index].CopyFrom(first[source])
