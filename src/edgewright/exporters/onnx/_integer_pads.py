"""Replace padding of real numbers between equal grids by padding of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.exporters.onnx._clamps import is_constant_grid, quantize_reals
from edgewright.exporters.onnx._constants import add_constant, constant_array


def pad_integers(graph: ir.Graph) -> None:
    """Pad the integers of values that are dequantized, padded and quantized to the same grid.

    The resulting integers are the same. Without this, OpenVINO pads with the integer 0, regardless
    of the real number it represents.
    """
    for pad in list(graph):
        source = pad.inputs[0] if pad.op_type == "Pad" else None
        before = None if source is None else source.producer()
        value = None if before is None else _value(pad)
        if before is None or value is None or before.op_type != "DequantizeLinear":
            continue
        result = pad.outputs[0]
        readers = [use.node for use in result.uses()]
        if result.is_graph_output() or not readers or not all(
                is_constant_grid(node) and _same_grid(before, node) for node in readers):
            continue
        integers = before.inputs[0]
        number = add_constant(graph, ir.tensor(quantize_reals(readers[0], value)), "padding")
        pad.replace_input_with(0, integers)
        pad.resize_inputs(max(len(pad.inputs), 3))
        pad.replace_input_with(2, number)
        result.type = readers[0].outputs[0].type
        for reader in readers:
            reader.outputs[0].replace_all_uses_with(result)
            graph.remove(reader, safe=True)


def _value(pad: ir.Node) -> NDArray[Any] | None:
    """The padding value, of shape (); None if not constant."""
    given = [*pad.inputs[2:], None][0]
    array = np.float32(0) if given is None else constant_array(given)
    return None if array is None else np.asarray(array).reshape(())


def _same_grid(before: ir.Node, after: ir.Node) -> bool:
    return len(before.inputs) == len(after.inputs) and all(
        (have := constant_array(one)) is not None and (want := constant_array(other)) is not None
        and have.dtype == want.dtype and np.array_equal(have, want)
        for one, other in zip(before.inputs[1:], after.inputs[1:], strict=True))
