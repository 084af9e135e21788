"""Weights that are stored as integers and dequantized for floating-point computation."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.exporters.onnx._constants import add_constant, remove_unused
from edgewright.exporters.onnx._moved_integers import (
    QuantizedConstant,
    collapse_repeats,
    find_moved_integers,
    is_lookup,
)
from edgewright.exporters.onnx._quantized_layers import QuantizedLayer, find_quantized_layers

_PACKED_BITS: Final = (2, 4, 8)
_FLOAT_ACTIVATIONS: Final = 1  # otherwise the runtime quantizes the layer's input to 8 bits
_MIN_GROUP_SIZE: Final = 16
_CONSTANT_ONLY: Final = frozenset({"GRU", "LSTM", "RNN", "ConvTranspose"})


def store_weights(graph: ir.Graph) -> None:
    """Rewrite weights that are used in floating point into the form that the runtime reads best.

    Per-channel scales become a multiplication that the runtime folds when it loads the file, so
    that it computes in floating point at full speed (a DequantizeLinear would run on every call).
    Slices, transpositions and concatenations of such weights are applied to the integers here.
    Integers of up to 4 bits are stored two per byte. For lookup tables, only the rows that are
    looked up are dequantized, not the table. Weights with groups become a matrix product of packed
    weights, which also saves memory, if the group size is a power of two from 16.
    """
    for layer in find_quantized_layers(graph):
        if layer.group and _is_packable(layer.group) and not _is_quantized(layer.source):
            _multiply_groups(graph, layer, layer.group)
    computed = {layer.node for layer in find_quantized_layers(graph) if _is_quantized(layer.source)}
    for value, integers in find_moved_integers(graph).items():
        uses = [use for use in value.uses() if use.node not in computed]
        lookups = [use.node for use in uses if use.idx == 0 and is_lookup(use.node)]
        for lookup in lookups:
            _dequantize_rows(graph, lookup, integers)
        readers = [use for use in uses if use.node not in lookups]
        if readers:
            constant = any(reader.op_type in _CONSTANT_ONLY for reader, _ in readers)
            real = _insert_dequantization(graph, value, integers, shared=bool(lookups),
                                          constant=constant)
            for reader, place in readers:
                reader.replace_input_with(place, real)
    remove_unused(graph)


def _is_quantized(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_packable(group: int) -> bool:
    return group >= _MIN_GROUP_SIZE and group & (group - 1) == 0


def _fits_four_bits(integers: QuantizedConstant) -> bool:
    tensors = [integers.values] + ([] if integers.zero_points is None else [integers.zero_points])
    return all(array.min() >= -8 and array.max() <= 7 for array in tensors)


def _fits(layer: QuantizedLayer, bits: int) -> bool:
    tensors = [layer.weight] + ([] if layer.zero_points is None else [layer.zero_points])
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return all(low <= array.min() and array.max() <= high for array in tensors)


def _multiply_groups(graph: ir.Graph, layer: QuantizedLayer, group: int) -> None:
    """Replace a layer by MatMulNBits (2, 4 or 8 unsigned bits, computed in floating point)."""
    outputs, inputs = layer.weight.shape
    bits = next(bits for bits in _PACKED_BITS if _fits(layer, bits))
    tensors: list[ir.Value | None] = [
        layer.source, _pack_unsigned(graph, layer.weight.reshape(outputs, -1, group), bits),
        add_constant(graph, ir.tensor(layer.scales), "scales")]
    zero_points = layer.zero_points
    tensors += [None if zero_points is None else _pack_unsigned(graph, zero_points, bits), None]
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


def _pack_unsigned(graph: ir.Graph, integers: NDArray[Any], bits: int) -> ir.Value:
    """Shift integers to unsigned and pack them along the last dimension, lowest bits first."""
    count = 8 // bits
    values = (integers.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    padding = -values.shape[-1] % count
    values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)])
    parts = values.reshape(*values.shape[:-1], -1, count) << (np.arange(count) * bits)
    return add_constant(graph, ir.tensor(parts.sum(-1).astype(np.uint8)), "packed")


def _insert_dequantization(graph: ir.Graph, value: ir.Value, integers: QuantizedConstant, *,
                           shared: bool, constant: bool) -> ir.Value:
    """Insert a dequantization: cast, minus zero points, times scales.

    Args:
        graph: The graph; nodes are inserted after the producer of ``value``.
        value: The current floating-point value.
        integers: The quantized constant.
        shared: Whether the file stores the integers with one byte each in any case.
        constant: Whether OpenVINO must compute the result when it loads the file. It does not fold
            a cast from bytes followed by a product, because it has kernels for such weights.
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
        zeros = collapse_repeats(integers.zero_points).astype(np.float32)
        nodes.append(ir.node("Sub", [*nodes[-1].outputs,
                                     add_constant(graph, ir.tensor(zeros), "zero_points")]))
    scales = add_constant(graph, ir.tensor(collapse_repeats(integers.scales)), "scales")
    nodes.append(ir.node("Mul", [*nodes[-1].outputs, scales]))
    producer = value.producer()
    assert producer is not None  # noqa: S101  (it is dequantized or moved)
    graph.insert_after(producer, nodes)
    return nodes[-1].outputs[0]


def _dequantize_rows(graph: ir.Graph, lookup: ir.Node, integers: QuantizedConstant) -> None:
    """Look up rows of integers, and dequantize only these rows."""
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
        found = collapse_repeats(array)
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
