"""Move clamps of real numbers behind the quantization, as clamps of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.exporters.onnx._constants import add_constant, constant_array


def clamp_integers(graph: ir.Graph) -> None:
    """Move every Relu and Clip whose result is only quantized behind the quantization.

    Quantization is monotonic, so clamping the integers to the quantized limits gives the same
    integers. The layer is then followed directly by its quantization, which the runtime fuses. A
    clamp to the limits of the grid is removed.
    """
    for node in list(graph):
        if node.domain not in ("", "ai.onnx") or node.op_type not in ("Relu", "Clip"):
            continue
        source, result = node.inputs[0], node.outputs[0]
        limits = _limits(node)
        readers = [use.node for use in result.uses()]
        if source is None or limits is None or not readers or result.is_graph_output():
            continue
        if limits.dtype != np.float32 or not all(map(is_constant_grid, readers)):
            continue
        result.replace_all_uses_with(source)
        graph.remove(node, safe=True)
        for reader in readers:
            _clamp(graph, reader, quantize_reals(reader, limits))


def _limits(node: ir.Node) -> NDArray[Any] | None:
    """The lower and the upper limit of a clamp, in its type; None if not constant."""
    if node.op_type == "Relu":
        return np.array([0, np.inf], np.float32)
    given = [*node.inputs[1:], None, None][:2]
    found = [constant_array(value) for value in given]
    if any(v is not None and a is None for v, a in zip(given, found, strict=True)):
        return None
    kinds = [array.dtype for array in found if array is not None]
    if not kinds:
        return None
    open_ends: tuple[float, float] = (-np.inf, np.inf)
    if np.issubdtype(kinds[0], np.integer):
        open_ends = np.iinfo(kinds[0]).min, np.iinfo(kinds[0]).max
    low, high = (end if array is None else array.item()
                 for array, end in zip(found, open_ends, strict=True))
    return np.array([low, high], kinds[0]) if low <= high else None


def is_constant_grid(node: ir.Node) -> bool:
    """Whether a node is a QuantizeLinear of one stored scale and zero point."""
    if node.op_type != "QuantizeLinear" or len(node.inputs) < 3:
        return False
    scale, zero_point = map(constant_array, node.inputs[1:])
    return scale is not None and zero_point is not None and scale.size == zero_point.size == 1


def quantize_reals(node: ir.Node, reals: NDArray[Any]) -> NDArray[Any]:
    """Quantize numbers as a QuantizeLinear with a constant grid does."""
    scale, zero_point = map(constant_array, node.inputs[1:])
    assert scale is not None and zero_point is not None  # noqa: S101, PT018  (is_constant_grid)
    kind = np.iinfo(zero_point.dtype)
    steps = np.rint(reals / scale.reshape(())) + zero_point.item()
    integers: NDArray[Any] = np.clip(steps, kind.min, kind.max).astype(zero_point.dtype)
    return integers


def _clamp(graph: ir.Graph, quantize: ir.Node, limits: NDArray[Any]) -> None:
    """Clamp the integers of a QuantizeLinear, merging with an existing clamp."""
    integers, kind = quantize.outputs[0], np.iinfo(limits.dtype)
    readers = [use.node for use in integers.uses()]
    clamp = readers[0] if len(readers) == 1 and not integers.is_graph_output() else None
    have = _limits(clamp) if clamp is not None and clamp.op_type == "Clip" else None
    if clamp is not None and have is not None:
        limits = np.clip(limits, have[0], have[1])
        clamp.outputs[0].replace_all_uses_with(integers, replace_graph_outputs=True)
        graph.remove(clamp, safe=True)
    if tuple(limits) == (kind.min, kind.max):
        return
    ends = [None if limit == end else add_constant(graph, ir.tensor(np.array(limit)), "limit")
            for limit, end in zip(limits, (kind.min, kind.max), strict=True)]
    clamp = ir.node("Clip", [integers, *ends])
    clamp.outputs[0].type, clamp.outputs[0].shape = integers.type, integers.shape
    graph.insert_after(quantize, clamp)
    integers.replace_all_uses_with(clamp.outputs[0], replace_graph_outputs=True)
    clamp.replace_input_with(0, integers)
