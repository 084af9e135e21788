"""What of a program is quantised, and on which grids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch.fx import Node

from edgewright.graph import ops, shape_of
from edgewright.program import Program
from edgewright.quantization.placement._choice import Choice
from edgewright.quantization.placement._points import Placement, WeightPoint
from edgewright.quantization.placement._shared_grids import (
    FULL,
    SharedGrids,
    moves,
    pads_with_infinity,
)
from edgewright.quantization.placement._units import Unit, find_units
from edgewright.quantization.scheme import Grid, Precision, Scheme, TargetRules

aten = torch.ops.aten


def place(program: Program, scheme: Scheme) -> Placement:
    """Decide what ``quantize`` makes of a program in floating point.

    A layer's result and that of an addition are quantised once, after the norm and the rectifier
    that go with it, for everyone who reads it; other values only for the layers that read them.
    What moves numbers without computing keeps their grid. A value that layers read with fewer
    bits than others is put on a coarser grid for these alone. The model's outputs stay in
    floating point, and so do values that are written into after they were computed, those that
    the target computes with a sum or cannot pad on a grid, masks, and what only a softmax or its
    like reads. Weights that no kernel of integers reads are stored as integers and computed with
    as real numbers, where the target's file has them so.

    Args:
        program: In floating point.
        scheme: Its patterns have to fit the program.

    Raises:
        UsageError: A pattern of ``scheme.layers`` matches no layer; near names are listed.
    """
    units = find_units(program.graph)
    choice = Choice.of(program, units, scheme)
    grids = SharedGrids(program.graph, scheme)
    if scheme.mode != "weight_only":
        _ask(units, choice.layers, scheme, grids)
    return Placement(_weight_points(units, choice, scheme), grids.points(), choice.kept)


def _ask(units: Sequence[Unit], chosen: Mapping[str, Precision], scheme: Scheme,
         grids: SharedGrids) -> None:
    """Collect who reads which value with how many bits, and what is quantised for everyone."""
    floats = _floats(units, chosen, scheme.target)
    for unit in units:
        if unit.kind != "elementwise":
            precision = chosen.get(unit.node.name)
            bits = None if precision is None else precision.activations
        else:
            wanted = scheme.mode == "static" and "elementwise" in scheme.operators
            bits = FULL if wanted else None
        if bits is None:
            continue
        for value in unit.inputs:
            if floats.get(value) != unit.node:
                grids.ask(value, unit.node, bits)
        if scheme.mode == "static" and unit.tail not in floats:
            grids.quantize_for_all(unit.tail)


def _floats(units: Sequence[Unit], chosen: Collection[str], target: TargetRules,
            ) -> dict[Node, Node]:
    """Results that a target cannot quantise for everyone, and who has to read them as they are."""
    sums = _fused_sums(units, chosen) if target.fuses_sums else {}
    return sums if target.pads_with_infinity else sums | _padded(units)


def _fused_sums(units: Sequence[Unit], chosen: Collection[str]) -> dict[Node, Node]:
    """Results of convolutions that a sum alone reads, each with the sum.

    The runtime computes the sum with that convolution, whose result is never on a grid. Of two
    it is one of integers, or the first.
    """
    alone = {unit.tail: unit.node.name not in chosen for unit in units
             if unit.kind == "convolution" and len(unit.tail.users) == 1}
    firsts = {unit.node: min(filter(alone.__contains__, unit.inputs), key=alone.__getitem__,
                             default=None) for unit in units if unit.node.target in ops.ADDITIONS}
    return {first: node for node, first in firsts.items() if first is not None}


def _padded(units: Sequence[Unit]) -> dict[Node, Node]:
    """Results that are padded with infinity, with the pads."""
    tails = {unit.tail for unit in units}
    pads = filter(pads_with_infinity, units[0].node.graph.nodes if units else ())
    return {origin: pad for pad in pads for origin in _origins(pad.all_input_nodes[0])
            if origin in tails}


def _origins(value: Node) -> set[Node]:
    """Where numbers were computed that have only been moved and joined since."""
    if moves(value) or value.target is aten.cat.default:
        return set().union(*map(_origins, value.all_input_nodes))
    return {value}


def _weight_points(units: Iterable[Unit], choice: Choice, scheme: Scheme,
                   ) -> tuple[WeightPoint, ...]:
    """One point a tensor; what shares it gets the most bits any of them asks for."""
    layers: dict[str, list[Unit]] = {}
    for unit in units:
        if unit.node.name in choice.layers and unit.weight is not None:
            layers.setdefault(str(unit.weight.target), []).append(unit)
    return tuple(_weight_point(tensor, layers.get(tensor, ()), choice, scheme)
                 for tensor in dict.fromkeys([*layers, *choice.stored]))


def _weight_point(tensor: str, layers: Sequence[Unit], choice: Choice, scheme: Scheme,
                  ) -> WeightPoint:
    asked: list[int] = [choice.layers[unit.node.name].weights or FULL for unit in layers]
    shape = next((shape_of(unit.weight) for unit in layers if unit.weight is not None), ())
    axis: int | None = 0
    readers: tuple[str, ...] = ()
    if tensor in choice.stored:
        bits, weight = choice.stored[tensor]
        asked.append(bits)
        shape, readers = weight.shape, tuple(node.name for node in weight.readers)
        axis = 0 if layers else weight.axis
    is_matrix = not readers and len(shape) == 2
    grid = scheme.weight_grid(max(asked), axis, inputs=shape[1] if is_matrix else None)
    return WeightPoint(tensor, tuple(unit.node.name for unit in layers), grid,
                       _scale_shape(grid, shape), readers)


def _scale_shape(grid: Grid, shape: tuple[int, ...]) -> tuple[int, ...]:
    if grid.group is not None:
        return shape[0], shape[1] // grid.group
    return () if grid.axis is None else (shape[grid.axis],)
