"""Weights that are integers in the file alone: what reads them computes with real numbers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.exporters.onnx._constants import add_constant, drop_unread
from edgewright.exporters.onnx._moved_integers import (
    Integers,
    is_lookup,
    moved_integers,
    without_repeats,
)
from edgewright.exporters.onnx._quantized_layers import QuantizedLayer, quantized_layers

_PACKED_BITS: Final = (2, 4, 8)
_FLOAT_ACTIVATIONS: Final = 1   # else the runtime rounds what the layer reads to eight bits
_LEAST_GROUP: Final = 16
_CONSTANT_ONLY: Final = frozenset({"GRU", "LSTM", "RNN", "ConvTranspose"})


def store_weights(graph: ir.Graph) -> None:
    """Write the weights that are read as real numbers so that the runtime reads them best.

    Scales of whole outputs become a product that the runtime folds when it loads the file, to
    compute in floats at full speed (it would keep a DequantizeLinear and run it on every call);
    what cuts, turns and joins such weights is done here, to the integers. Integers of up to four
    bits are stored two to a byte. Of tables the rows that are looked up become real numbers, not
    the table. Scales of groups become a matrix product of packed weights, which saves memory too,
    where a group is a power of two from 16 on.
    """
    for layer in quantized_layers(graph):
        if layer.group and _is_packable(layer.group) and not _is_quantized(layer.source):
            _multiply_groups(graph, layer, layer.group)
    computed = {layer.node for layer in quantized_layers(graph) if _is_quantized(layer.source)}
    for value, integers in moved_integers(graph).items():
        uses = [use for use in value.uses() if use.node not in computed]
        lookups = [use.node for use in uses if use.idx == 0 and is_lookup(use.node)]
        for lookup in lookups:
            _look_up(graph, lookup, integers)
        readers = [use for use in uses if use.node not in lookups]
        if readers:
            real = _real(graph, value, integers, shared=bool(lookups), constant=any(
                reader.op_type in _CONSTANT_ONLY for reader, _ in readers))
            for reader, place in readers:
                reader.replace_input_with(place, real)
    drop_unread(graph)


def _is_quantized(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_packable(group: int) -> bool:
    return group >= _LEAST_GROUP and group & (group - 1) == 0


def _fits_four_bits(integers: Integers) -> bool:
    tensors = [integers.values] + ([] if integers.zero_points is None else [integers.zero_points])
    return all(array.min() >= -8 and array.max() <= 7 for array in tensors)


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


def _real(graph: ir.Graph, value: ir.Value, integers: Integers, *, shared: bool,
          constant: bool) -> ir.Value:
    """Cast, less the zero points, times the scales.

    Args:
        graph: Where it is written, after what ``value`` is computed by.
        value: The numbers as they are computed now.
        integers: What stands for them.
        shared: The file needs the integers a byte each anyway.
        constant: OpenVINO is to compute it when it loads the file. It keeps a cast from bytes and
            a product as they are, for kernels that read such weights.
    """
    weight = integers.source
    if weight is None or (not shared and _fits_four_bits(integers)):
        kind = ir.DataType.INT4 if _fits_four_bits(integers) and not shared else ir.DataType.INT8
        weight = add_constant(graph, ir.tensor(
            np.ascontiguousarray(integers.values, dtype=kind.numpy())), "weight")
    kinds = (ir.DataType.INT32, ir.DataType.FLOAT) if constant else (ir.DataType.FLOAT,)
    nodes: list[ir.Node] = []
    for kind in kinds:
        nodes.append(ir.node("Cast", nodes[-1].outputs if nodes else [weight], {"to": int(kind)}))
    if integers.zero_points is not None:
        zeros = without_repeats(integers.zero_points).astype(np.float32)
        nodes.append(ir.node("Sub", [*nodes[-1].outputs,
                                     add_constant(graph, ir.tensor(zeros), "zero_points")]))
    scales = add_constant(graph, ir.tensor(without_repeats(integers.scales)), "scales")
    nodes.append(ir.node("Mul", [*nodes[-1].outputs, scales]))
    producer = value.producer()
    assert producer is not None  # noqa: S101  (it is dequantized or moved)
    graph.insert_after(producer, nodes)
    return nodes[-1].outputs[0]


def _look_up(graph: ir.Graph, lookup: ir.Node, integers: Integers) -> None:
    """Rows of integers, less their zero points, times their scales."""
    table = integers.source
    if table is None:
        table = add_constant(graph, ir.tensor(integers.values), "table")
    rows = lookup.inputs[1]
    nodes = [ir.node("Gather", [table, rows], {"axis": 0})]
    nodes.append(ir.node("Cast", nodes[-1].outputs, {"to": int(ir.DataType.FLOAT)}))
    beside = {"Mul": integers.scales}
    if integers.zero_points is not None:
        beside = {"Sub": integers.zero_points.astype(np.float32), **beside}
    for operator, array in beside.items():
        real = nodes[-1].outputs[0]
        found = without_repeats(array)
        operand = add_constant(graph, ir.tensor(found if len(found) > 1 else found[0]), "rows")
        if len(found) > 1:
            nodes.append(ir.node("Gather", [operand, rows], {"axis": 0}))
            operand = nodes[-1].outputs[0]
        nodes.append(ir.node(operator, [real, operand]))
    graph.insert_before(lookup, nodes)
    result, last = lookup.outputs[0], nodes[-1].outputs[0]
    last.type, last.shape = result.type, result.shape
    result.replace_all_uses_with(last, replace_graph_outputs=True)
    graph.remove(lookup, safe=True)
