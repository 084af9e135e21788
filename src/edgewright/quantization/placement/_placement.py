"""Decide which tensors of a program are quantized, and on which grids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from torch.fx import Node

from edgewright.graph import is_pointwise, ops, shape_of, tensor_of
from edgewright.program import Program
from edgewright.quantization.placement._assignment import PrecisionAssignment
from edgewright.quantization.placement._fused_ops import FusedOp, find_fused_ops
from edgewright.quantization.placement._points import Placement, WeightPoint
from edgewright.quantization.placement._shared_grids import (
    FULL,
    SharedGrids,
    is_data_movement,
    joined_values,
    pads_with_infinity,
)
from edgewright.quantization.scheme import Grid, Precision, Scheme, TargetRules


def place(program: Program, scheme: Scheme) -> Placement:
    """Decide where a program is quantized.

    The result of a layer or an addition is quantized once for all its readers, after the norm and
    the ReLU that are fused with it; other values are quantized only for the layers that read
    them. Operators that only move data keep the grid of their input. If some layers read a value
    with fewer bits than its other readers, it is quantized again to a coarser grid for those layers
    only.

    The following stay in floating point: model outputs; values that are modified in place later;
    values that the target fuses into an addition or cannot pad; masks; and values that only
    softmax-like operators read. Weights without an integer kernel are stored as integers and
    dequantized before use, if the target supports it.

    Args:
        program: A program in floating point.
        scheme: The scheme; its patterns must match the program.

    Raises:
        UsageError: A pattern of ``scheme.layers`` matches no layer; similar names are listed.
    """
    fused_ops = find_fused_ops(program.graph)
    assignment = PrecisionAssignment.of(program, fused_ops, scheme)
    grids = SharedGrids(program.graph, scheme)
    if scheme.activation_mode != "weight_only":
        _request_activations(fused_ops, assignment.layers, scheme, grids)
    weights = _weight_points(fused_ops, assignment, scheme)
    return Placement(weights, grids.points(), assignment.skip_reasons)


def _request_activations(fused_ops: Sequence[FusedOp], chosen: Mapping[str, Precision],
                         scheme: Scheme, grids: SharedGrids) -> None:
    """Request the bits of every value that an operator reads quantized."""
    floats = _unquantized_results(fused_ops, chosen, scheme.target)
    for op in fused_ops:
        if op.kind != "elementwise":
            precision = chosen.get(op.node.name)
            bits = None if precision is None else precision.activations
        else:
            wanted = scheme.activation_mode == "static" and "elementwise" in scheme.operators
            bits = FULL if wanted else None
        if bits is None:
            continue
        for value in op.inputs:
            if floats.get(value) != op.node:
                grids.request(value, op.node, bits)
        if scheme.activation_mode == "static" and op.tail not in floats:
            grids.quantize_for_all(op.tail)
    if scheme.target.integers_only:
        _quantize_everything(fused_ops, grids)


def _quantize_everything(fused_ops: Sequence[FusedOp], grids: SharedGrids) -> None:
    """Quantize what every other operator reads and returns, except inside fused operators."""
    inside = {part for op in fused_ops for part in (op.node, op.norm, op.tail)}
    for node in fused_ops[0].node.graph.nodes if fused_ops else ():
        if (node.op != "call_function" or node in inside or is_data_movement(node)
                or not _is_float(node)):
            continue
        for value in node.all_input_nodes:
            if _is_float(value) and value.op != "get_attr" and not _is_inner(value, node):
                grids.request(value, node, FULL)
        if not all(_is_inner(node, user) for user in node.users):
            grids.quantize_for_all(node)


def _is_inner(value: Node, reader: Node) -> bool:
    """Whether a value is only a step of an element-wise function of one tensor."""
    return (is_pointwise(reader.target) and is_pointwise(value.target)
            and all(len(one.all_input_nodes) == 1 for one in (value, reader))
            and len(value.users) == 1)


def _is_float(node: Node) -> bool:
    value = tensor_of(node)
    return value is not None and value.is_floating_point()


def _unquantized_results(fused_ops: Sequence[FusedOp], chosen: Collection[str], target: TargetRules,
            ) -> dict[Node, Node]:
    """Results that a target cannot quantize, each with the reader that needs floating point."""
    sums = _fused_sums(fused_ops, chosen) if target.fuses_sums else {}
    return sums if target.pads_with_infinity else sums | _infinity_padded_results(fused_ops)


def _fused_sums(fused_ops: Sequence[FusedOp], chosen: Collection[str]) -> dict[Node, Node]:
    """Results of convolutions that only an addition reads, each with the addition.

    The runtime fuses the addition with that convolution, whose result is then never quantized. Of
    two convolutions it fuses a quantized one, otherwise the first.
    """
    alone = {op.tail: op.node.name not in chosen for op in fused_ops
             if op.kind == "convolution" and len(op.tail.users) == 1}
    firsts = {op.node: min(filter(alone.__contains__, op.inputs), key=alone.__getitem__,
                             default=None) for op in fused_ops if op.node.target in ops.ADDITIONS}
    return {first: node for node, first in firsts.items() if first is not None}


def _infinity_padded_results(fused_ops: Sequence[FusedOp]) -> dict[Node, Node]:
    """Results that are padded with infinity, each with the padding operator."""
    tails = {op.tail for op in fused_ops}
    pads = filter(pads_with_infinity, fused_ops[0].node.graph.nodes if fused_ops else ())
    return {origin: pad for pad in pads for origin in _origins(pad.all_input_nodes[0])
            if origin in tails}


def _origins(value: Node) -> set[Node]:
    """The nodes that computed a value, before any data movement, concatenation and route."""
    sources = joined_values(value) or (value.all_input_nodes if is_data_movement(value) else [])
    if sources:
        return set().union(*map(_origins, sources))
    return {value}


def _weight_points(fused_ops: Iterable[FusedOp], assignment: PrecisionAssignment, scheme: Scheme,
                   ) -> tuple[WeightPoint, ...]:
    """One point per tensor; layers that share a tensor get the most bits that any requests."""
    layers: dict[str, list[FusedOp]] = {}
    for op in fused_ops:
        if op.node.name in assignment.layers and op.weight is not None:
            layers.setdefault(str(op.weight.target), []).append(op)
    return tuple(_weight_point(tensor, layers.get(tensor, ()), assignment, scheme)
                 for tensor in dict.fromkeys([*layers, *assignment.stored]))


def _weight_point(tensor: str, layers: Sequence[FusedOp], assignment: PrecisionAssignment,
                  scheme: Scheme) -> WeightPoint:
    requested: list[int] = [assignment.layers[op.node.name].weights or FULL for op in layers]
    shape = next((shape_of(op.weight) for op in layers if op.weight is not None), ())
    axis: int | None = 0
    readers: tuple[str, ...] = ()
    if tensor in assignment.stored:
        bits, weight = assignment.stored[tensor]
        requested.append(bits)
        shape, readers = weight.shape, tuple(node.name for node in weight.readers)
        axis = 0 if layers else weight.axis
    is_matrix = not readers and len(shape) == 2
    grid = scheme.weight_grid(max(requested), axis, inputs=shape[1] if is_matrix else None)
    return WeightPoint(tensor, tuple(op.node.name for op in layers), grid,
                       _scale_shape(grid, shape), readers)


def _scale_shape(grid: Grid, shape: tuple[int, ...]) -> tuple[int, ...]:
    if grid.group is not None:
        return shape[0], shape[1] // grid.group
    return () if grid.axis is None else (shape[grid.axis],)
