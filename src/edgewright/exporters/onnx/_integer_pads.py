"""A padding of reals between two quantisations on one grid becomes one of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.exporters.onnx._clamps import is_constant_grid, quantize_reals
from edgewright.exporters.onnx._constants import add_constant, array_of


def pad_integers(graph: ir.Graph) -> None:
    """Pad the integers of what is dequantised, padded and quantised on the same grid again.

    The integers are the same, and nothing is computed in between. OpenVINO pads channels with the
    integer 0 otherwise, whatever number that stands for.
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
    """The number that is padded with, of shape (); None if not constant."""
    given = [*pad.inputs[2:], None][0]
    array = np.float32(0) if given is None else array_of(given)
    return None if array is None else np.asarray(array).reshape(())


def _same_grid(before: ir.Node, after: ir.Node) -> bool:
    return len(before.inputs) == len(after.inputs) and all(
        (have := array_of(one)) is not None and (want := array_of(other)) is not None
        and have.dtype == want.dtype and np.array_equal(have, want)
        for one, other in zip(before.inputs[1:], after.inputs[1:], strict=True))
