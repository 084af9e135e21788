"""Layers that read real inputs: their weights are integers in the file alone."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.exporters._constants import add_constant, drop_unread
from edgewright.exporters._quantized_layers import QuantizedLayer, quantized_layers

_PACKED_BITS: Final = (2, 4, 8)
_FLOAT_ACTIVATIONS: Final = 1   # else the runtime rounds what the layer reads to eight bits
_LEAST_GROUP: Final = 16


def store_weights(graph: ir.Graph) -> None:
    """Write the weights of layers with real inputs so that the runtime reads them best.

    Scales of whole outputs become a product that the runtime folds when it loads the file, to
    compute in floats at full speed (it would keep a DequantizeLinear and run it on every call);
    integers of up to four bits are stored two to a byte. Scales of groups become a matrix product
    of packed weights, which saves memory too, where a group is a power of two from 16 on.
    """
    for layer in quantized_layers(graph):
        if _is_quantized(layer.source):
            continue
        if layer.group is None:
            _fold(graph, layer)
        elif _is_packable(layer.group):
            _multiply_groups(graph, layer, layer.group)
    drop_unread(graph)


def _is_quantized(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_packable(group: int) -> bool:
    return group >= _LEAST_GROUP and group & (group - 1) == 0


def _packed(integers: NDArray[Any], fits: bool) -> ir.TensorProtocol:
    """A tensor of int8, or of int4 where all fits."""
    kind = ir.DataType.INT4 if fits else ir.DataType.INT8
    return ir.tensor(np.ascontiguousarray(integers, dtype=kind.numpy()))


def _fits(layer: QuantizedLayer, bits: int) -> bool:
    tensors = [layer.weight] + ([] if layer.zero_points is None else [layer.zero_points])
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return all(low <= array.min() and array.max() <= high for array in tensors)


def _multiply_groups(graph: ir.Graph, layer: QuantizedLayer, group: int) -> None:
    """MatMulNBits of 2, 4 or 8 bits, which computes in floats; its integers have no sign."""
    outputs, inputs = layer.weight.shape
    bits = next(bits for bits in _PACKED_BITS if _fits(layer, bits))
    tensors: list[ir.Value | None] = [
        layer.source, _unsigned(graph, layer.weight.reshape(outputs, -1, group), bits),
        add_constant(graph, ir.tensor(layer.scales), "scales")]
    zero_points = layer.zero_points
    tensors += [None if zero_points is None else _unsigned(graph, zero_points, bits), None]
    bias = layer.node.inputs[2] if len(layer.node.inputs) > 2 else None
    product = ir.node("MatMulNBits", [*tensors, *([bias] if bias is not None else [])], {
        "K": inputs, "N": outputs, "bits": bits, "block_size": group,
        "accuracy_level": _FLOAT_ACTIVATIONS}, domain="com.microsoft")
    graph.insert_before(layer.node, product)
    result, last = layer.node.outputs[0], product.outputs[0]
    last.type, last.shape = result.type, result.shape
    result.replace_all_uses_with(last, replace_graph_outputs=True)
    graph.remove(layer.node, safe=True)
    graph.opset_imports["com.microsoft"] = 1


def _unsigned(graph: ir.Graph, integers: NDArray[Any], bits: int) -> ir.Value:
    """Integers less the lowest there is, packed along the last dimension, lowest bits first."""
    count = 8 // bits
    values = (integers.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    padding = -values.shape[-1] % count
    values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)])
    parts = values.reshape(*values.shape[:-1], -1, count) << (np.arange(count) * bits)
    return add_constant(graph, ir.tensor(parts.sum(-1).astype(np.uint8)), "packed")


def _fold(graph: ir.Graph, layer: QuantizedLayer) -> None:
    """Cast, less the zero points, times the scales."""
    shape, fits = (-1, *[1] * (layer.weight.ndim - 1)), _fits(layer, 4)
    weight = add_constant(graph, _packed(_turned(layer, layer.weight), fits), "weight")
    nodes = [ir.node("Cast", [weight], {"to": int(ir.DataType.FLOAT)})]
    if layer.zero_points is not None:
        zeros = _turned(layer, layer.zero_points.reshape(shape).astype(np.float32))
        nodes.append(ir.node("Sub", [*nodes[-1].outputs,
                                     add_constant(graph, ir.tensor(zeros), "zero_points")]))
    scales = add_constant(graph, ir.tensor(_turned(layer, layer.scales.reshape(shape))), "scales")
    nodes.append(ir.node("Mul", [*nodes[-1].outputs, scales]))
    graph.insert_before(layer.node, nodes)
    layer.node.replace_input_with(1, nodes[-1].outputs[0])


def _turned(layer: QuantizedLayer, array: NDArray[Any]) -> NDArray[Any]:
    """An array as the layer reads it: a MatMul takes (inputs, outputs)."""
    return np.ascontiguousarray(array.T if layer.node.op_type == "MatMul" else array)
