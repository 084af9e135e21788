"""Keep floating-point layers from being quantized by the runtime."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from edgewright.exporters.onnx._constants import add_constant, is_constant

_LAYERS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_LOWEST: Final = np.finfo(np.float32).min


def keep_float_layers(graph: ir.Graph) -> None:
    """Insert a Max between dequantized values and layers with floating-point weights.

    ONNX Runtime treats such a layer between a dequantization and a quantization as a quantized
    layer, and rounds its weights to bytes itself. The Max with the lowest float does not change the
    value, and the runtime does not remove it.
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
