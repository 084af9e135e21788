"""What of a program is quantised, and on which grids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import torch
from torch.fx import Node

from edgewright.program import Program, match_tensors, shape_of
from edgewright.quantization._config import Precision, Quantization, Target
from edgewright.quantization._grid import Grid
from edgewright.quantization._points import Placement, WeightPoint
from edgewright.quantization._shared_grids import (
    FULL,
    SharedGrids,
    is_output,
    moves,
    pads_with_infinity,
)
from edgewright.quantization._targets import RULES, weight_grid
from edgewright.quantization._units import LAYERS, Unit, find_units

aten = torch.ops.aten


def place(program: Program, config: Quantization) -> Placement:
    """Decide what ``quantize`` makes of a program in floating point.

    A layer's result and that of an addition are quantised once, after the norm and the rectifier
    that go with it, for everyone who reads it; other values only for the layers that read them.
    What moves numbers without computing keeps their grid. A value that layers read with fewer
    bits than others is put on a coarser grid for these alone. The model's outputs stay in
    floating point, and so do values that are written into after they were computed, and those
    that the target computes with a sum or cannot pad on a grid.

    Args:
        program: In floating point.
        config: The scheme, whose patterns have to fit the program.

    Raises:
        UsageError: A pattern of ``config.layers`` matches no layer; near names are listed.
    """
    units = find_units(program.graph)
    chosen, kept = _precisions(program, units, config)
    grids = SharedGrids(program.graph, config)
    if config.mode != "weight_only":
        _ask(units, chosen, config, grids)
    return Placement(_weight_points(units, chosen, config), grids.points(), kept)


def _precisions(program: Program, units: Iterable[Unit], config: Quantization,
                ) -> tuple[dict[str, Precision], dict[str, str]]:
    """The precision of every layer that is quantised, by its call; why others are not."""
    layers = {unit.node.name: unit for unit in units if unit.weight is not None}
    names = {str(unit.weight.target) for unit in layers.values() if unit.weight is not None}
    patterns = match_tensors(names, config.layers, option="layers")
    ends = set() if config.ends is None else _ends(layers.values())
    usual = Precision(weights=config.weights, activations=config.activations)
    chosen: dict[str, Precision] = {}
    kept: dict[str, str] = {}
    for name, unit in layers.items():
        tensor = str(unit.weight.target)  # type: ignore[union-attr]  # a layer has one
        precision = usual.at_least(config.ends or 0) if name in ends else usual
        own = config.layers[patterns[tensor]] if tensor in patterns else precision
        if unit.kind not in config.operators:
            kept[tensor] = f"operators leaves out {unit.kind}"
        elif config.mode == "dynamic" and unit.kind != "linear":
            kept[tensor] = "the runtime has no fast dynamic convolution"
        elif own is None or own.weights is None:
            kept[tensor] = f"layers says so of {patterns[tensor]!r}"
        else:
            chosen[name] = own
    return chosen, kept | _without_kernel(program, layers)


_SUMS: Final = frozenset({aten.add.Tensor, aten.add_.Tensor})
_WEIGHTED: Final = frozenset({
    aten.conv3d.default, aten.conv3d.padding, aten.conv_transpose1d.default,
    aten.conv_transpose2d.input, aten.conv_transpose3d.input, aten.lstm.input, aten.gru.input,
    aten.rnn_tanh.input, aten.rnn_relu.input, aten.bilinear.default,
})


def _without_kernel(program: Program, layers: Mapping[str, Unit]) -> dict[str, str]:
    """Operators with weights that no unit covers, and why."""
    kept = {}
    for node in program.calls():
        if node.target in _WEIGHTED:
            kept[node.name] = f"{node.target} has no integer kernel in the runtimes"
        elif node.target in LAYERS and node.name not in layers:
            kept[node.name] = "its weight is computed, not stored"
    return kept


def _ends(layers: Iterable[Unit]) -> set[str]:
    """The layers that read an input of the model or give an output, directly or moved only."""
    def origin(value: Node) -> Node:
        while moves(value):
            value = value.all_input_nodes[0]
        return value

    return {unit.node.name for unit in layers
            if origin(unit.inputs[0]).op == "placeholder" or is_output(unit.tail)}


def _ask(units: Sequence[Unit], chosen: Mapping[str, Precision], config: Quantization,
         grids: SharedGrids) -> None:
    """Collect who reads which value with how many bits, and what is quantised for everyone."""
    floats = _floats(units, chosen, config.target)
    for unit in units:
        if unit.kind != "elementwise":
            precision = chosen.get(unit.node.name)
            bits = None if precision is None else precision.activations
        else:
            wanted = config.mode == "static" and "elementwise" in config.operators
            bits = FULL if wanted else None
        if bits is None:
            continue
        for value in unit.inputs:
            if floats.get(value) != unit.node:
                grids.ask(value, unit.node, bits)
        if config.mode == "static" and unit.tail not in floats:
            grids.quantize_for_all(unit.tail)


def _floats(units: Sequence[Unit], chosen: Collection[str], target: Target) -> dict[Node, Node]:
    """Results that a target cannot quantise for everyone, and who has to read them as they are."""
    rules = RULES[target]
    sums = _fused_sums(units, chosen) if rules.fuses_sums else {}
    return sums if rules.pads_with_infinity else sums | _padded(units)


def _fused_sums(units: Sequence[Unit], chosen: Collection[str]) -> dict[Node, Node]:
    """Results of convolutions that a sum alone reads, each with the sum.

    The runtime computes the sum with that convolution, whose result is never on a grid. Of two
    it is one of integers, or the first.
    """
    alone = {unit.tail: unit.node.name not in chosen for unit in units
             if unit.kind == "convolution" and len(unit.tail.users) == 1}
    firsts = {unit.node: min(filter(alone.__contains__, unit.inputs), key=alone.__getitem__,
                             default=None) for unit in units if unit.node.target in _SUMS}
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


def _weight_points(units: Iterable[Unit], chosen: Mapping[str, Precision], config: Quantization,
                   ) -> tuple[WeightPoint, ...]:
    """One point a tensor; layers that share it get the most bits any of them asks for."""
    readers: dict[str, list[Unit]] = {}
    for unit in units:
        if unit.node.name in chosen and unit.weight is not None:
            readers.setdefault(str(unit.weight.target), []).append(unit)
    points = []
    for tensor, layers in readers.items():
        bits = max(chosen[unit.node.name].weights or FULL for unit in layers)
        shape = shape_of(layers[0].weight)  # type: ignore[arg-type]  # a layer has one
        grid = weight_grid(config, bits)
        if grid.group is not None and (len(shape) != 2 or shape[1] % grid.group):
            grid = weight_grid(config.replace(granularity="channel"), bits)
        points.append(WeightPoint(tensor, tuple(unit.node.name for unit in layers), grid,
                                  _scale_shape(grid, shape)))
    return tuple(points)


def _scale_shape(grid: Grid, shape: tuple[int, ...]) -> tuple[int, ...]:
    if grid.group is not None:
        return shape[0], shape[1] // grid.group
    return () if grid.axis is None else (shape[grid.axis],)
