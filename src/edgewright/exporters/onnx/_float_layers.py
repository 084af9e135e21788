"""Layers that stay in floating point, among integers."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from edgewright.exporters.onnx._constants import add_constant, is_constant

_LAYERS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_LOWEST: Final = np.finfo(np.float32).min


def keep_float_layers(graph: ir.Graph) -> None:
    """Let no layer with weights in floating point read a dequantised value directly.

    ONNX Runtime takes one between a dequantisation and a quantisation for a quantised layer whose
    weights were left out by mistake, and rounds them to bytes itself. The greater of a value and
    the lowest number is the value, and nothing that the runtime takes away.
    """
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        producer = None if source is None else source.producer()
        if (source is None or producer is None or producer.op_type != "DequantizeLinear"
                or node.op_type not in _LAYERS or not is_constant(node.inputs[1])):
            continue
        lowest = add_constant(graph, ir.tensor(np.array(_LOWEST, np.float32)), "lowest")
        same = ir.node("Max", [source, lowest])
        same.outputs[0].type, same.outputs[0].shape = source.type, source.shape
        graph.insert_before(node, same)
        node.replace_input_with(0, same.outputs[0])
