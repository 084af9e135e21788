"""Where a program is quantised: which values and weights, on which grids, and which share one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

import torch
from torch.fx import Node

from edgewright.program import Program, match_tensors, shape_of
from edgewright.quantization._config import Precision, Quantization
from edgewright.quantization._grid import Grid
from edgewright.quantization._targets import RULES, TargetRules, activation_grid, check, weight_grid
from edgewright.quantization._units import Unit, find_units, is_output

aten = torch.ops.aten
_FULL: Final = 8  # bits of what no layer reads with fewer

# Operators that move values, or choose among them: the result lies on the grid of the input.
_MOVERS: Final = frozenset({
    aten.max_pool2d.default, aten.max_pool1d.default, aten.flatten.using_ints, aten.view.default,
    aten.reshape.default, aten.permute.default, aten.transpose.int, aten.slice.Tensor,
    aten.pad.default, aten.constant_pad_nd.default, aten.squeeze.dim, aten.squeeze.dims,
    aten.unsqueeze.default, aten.contiguous.default, aten.clone.default, aten.dropout.default,
    aten.select.int,
})
_AVERAGES: Final = frozenset({
    aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default, aten.mean.dim,
})


@final
@dataclass(frozen=True)
class WeightPoint:
    """A stored weight on a grid.

    Attributes:
        tensor: Its name.
        layers: Names of the calls that read it so.
        grid: Its integers.
        shape: Of the scale.
    """

    tensor: str
    layers: tuple[str, ...]
    grid: Grid
    shape: tuple[int, ...]


@final
@dataclass(frozen=True)
class Place:
    """A value of the program, and who reads it quantised; None for everyone."""

    value: str
    readers: tuple[str, ...] | None


@final
@dataclass(frozen=True)
class ActivationPoint:
    """Values that lie on one grid, with one scale.

    Attributes:
        name: Of the first of them.
        grid: Its integers.
        places: Where, in the program's order.
        dynamic: The scale is not one, but taken from each input while running.
    """

    name: str
    grid: Grid
    places: tuple[Place, ...]
    dynamic: bool = False


@final
@dataclass(frozen=True)
class Placement:
    """All that is quantised in a program.

    Attributes:
        weights: By name, in the program's order.
        activations: What everyone reads first; then what some read with fewer bits from there.
        kept: Layers that stay in floating point, by the name of their weight, and why.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                           torch.nn.Linear(8, 3))
        >>> placement = place(Program.capture(net, torch.zeros(1, 4)), Quantization())
        >>> [point.tensor for point in placement.weights]
        ['0.weight', '2.weight']
        >>> [point.name for point in placement.activations]
        ['input_1', 'relu']
    """

    weights: tuple[WeightPoint, ...]
    activations: tuple[ActivationPoint, ...]
    kept: Mapping[str, str]


def place(program: Program, config: Quantization) -> Placement:
    """Decide what ``quantize`` makes of a program in floating point.

    A layer's result and that of an addition are quantised once, after the norm and the rectifier
    that go with it, for everyone who reads it; other values only for the layers that read them.
    What moves numbers without computing keeps their grid. A value that layers read with fewer
    bits than others is put on a coarser grid for these alone. The model's outputs stay in
    floating point.

    Args:
        program: In floating point.
        config: The scheme, whose patterns have to fit the program.

    Raises:
        UsageError: The scheme breaks a rule of its target, or a pattern of ``config.layers``
            matches no layer; near names are listed.
    """
    check(config)
    units = find_units(program.graph)
    chosen, kept = _precisions(program, units, config)
    values = _Values(RULES[config.target])
    if config.mode != "weight_only":
        _ask(units, chosen, config, values)
        values.follow(program.graph.nodes)
    return Placement(_weight_points(units, chosen, config), values.points(config), kept)


def _precisions(program: Program, units: Iterable[Unit], config: Quantization,
                ) -> tuple[dict[str, Precision], dict[str, str]]:
    """The precision of every layer that is quantised, by its call; why others are not."""
    layers = {unit.node.name: unit for unit in units if unit.weight is not None}
    names = {str(unit.weight.target) for unit in layers.values() if unit.weight is not None}
    patterns = match_tensors(names, config.layers, option="layers")
    ends = _ends(layers.values())
    chosen: dict[str, Precision] = {}
    kept: dict[str, str] = {}
    for name, unit in layers.items():
        tensor = str(unit.weight.target)  # type: ignore[union-attr]  # a layer has one
        precision: Precision | None = Precision(weights=config.weights,
                                                activations=config.activations)
        if config.ends is not None and name in ends and precision is not None:
            precision = precision.at_least(config.ends)
        if tensor in patterns:
            precision = config.layers[patterns[tensor]]
        if unit.kind not in config.operators:
            kept[tensor] = f"operators leaves out {unit.kind}"
        elif config.mode == "dynamic" and unit.kind != "linear":
            kept[tensor] = "the runtime has no fast dynamic convolution"
        elif precision is None or precision.weights is None:
            kept[tensor] = f"layers says so of {patterns[tensor]!r}"
        else:
            chosen[name] = precision
    return chosen, kept | _without_kernel(program, layers)


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
        elif (node.target in (aten.linear.default, aten.conv2d.default, aten.conv1d.default)
              and node.name not in layers):
            kept[node.name] = "its weight is computed, not stored"
    return kept


def _ends(layers: Iterable[Unit]) -> set[str]:
    """The layers that read an input of the model or give an output, directly or moved only."""
    def reaches(node: Node, onward: Any, found: str) -> bool:
        while node.op == "call_function" and node.target in _MOVERS:
            node = onward(node)
        return node.op == found

    return {unit.node.name for unit in layers
            if reaches(unit.inputs[0], lambda node: node.args[0], "placeholder")
            or any(reaches(user, lambda node: next(iter(node.users)), "output")
                   for user in unit.tail.users)}


def _ask(units: Iterable[Unit], chosen: Mapping[str, Precision], config: Quantization,
         values: _Values) -> None:
    """Collect who reads which value with how many bits, and what is quantised for everyone."""
    for unit in units:
        if unit.kind != "elementwise":
            precision = chosen.get(unit.node.name)
            bits = None if precision is None else precision.activations
        else:
            wanted = config.mode == "static" and "elementwise" in config.operators
            bits = _FULL if wanted else None
        if bits is None:
            continue
        for value in unit.inputs:
            values.asked(value, unit.node, bits)
        if config.mode == "static" and not unit.is_output:
            values.produced(unit.tail)


@dataclass
class _Values:
    """Which values are quantised, for whom, with how many bits, and which share a grid."""

    rules: TargetRules
    asks: dict[Node, dict[str, int]] = field(default_factory=dict)
    for_all: dict[Node, Node] = field(default_factory=dict)  # a value -> whose grid it lies on

    def asked(self, value: Node, reader: Node, bits: int) -> None:
        self.asks.setdefault(value, {})[reader.name] = bits

    def produced(self, value: Node) -> None:
        self.for_all[value] = value

    def follow(self, nodes: Iterable[Node]) -> None:
        """Let what only moves values, and joins of them, pass their grids on."""
        for node in nodes:
            sources = self._sources(node)
            if not sources or is_output(node) or not all(s in self.for_all for s in sources):
                continue
            if node.target is aten.cat.default and not self.rules.one_grid:
                self.for_all[node] = node
                continue
            first = self._root(sources[0])
            self.for_all[node] = first
            for source in sources[1:]:
                self.for_all[self._root(source)] = first

    def _sources(self, node: Node) -> list[Node]:
        if node.target is aten.cat.default:
            return node.all_input_nodes
        if node.target in _MOVERS or (node.target in _AVERAGES and self.rules.one_grid):
            return node.all_input_nodes[:1]
        return []

    def _root(self, value: Node) -> Node:
        while self.for_all[value] is not value:
            value = self.for_all[value]
        return value

    def points(self, config: Quantization) -> tuple[ActivationPoint, ...]:
        """The points, those for everyone first."""
        classes: dict[Node, list[Node]] = {}
        for value in self.for_all:
            classes.setdefault(self._root(value), []).append(value)
        bits = {root: max((bits for value in members for bits in self.asks.get(value, {}).values()),
                          default=_FULL) for root, members in classes.items()}
        found = [ActivationPoint(root.name, activation_grid(config, bits[root]),
                                 tuple(Place(value.name, None) for value in members))
                 for root, members in classes.items()]
        return (*found, *self._coarser(config, bits))

    def _coarser(self, config: Quantization, bits: Mapping[Node, int]) -> list[ActivationPoint]:
        found = []
        for value, asks in self.asks.items():
            given = bits[self._root(value)] if value in self.for_all else None
            for asked in sorted(set(asks.values()) - {given}, reverse=True):
                readers = tuple(reader for reader, want in asks.items() if want == asked)
                whole = given is None and len(set(asks.values())) == 1
                name = value.name if whole else f"{value.name}_{asked}bit"
                found.append(ActivationPoint(name, activation_grid(config, asked),
                                             (Place(value.name, readers),),
                                             dynamic=config.mode == "dynamic"))
        return found


def _weight_points(units: Iterable[Unit], chosen: Mapping[str, Precision], config: Quantization,
                   ) -> tuple[WeightPoint, ...]:
    """One point a tensor; layers that share it get the most bits any of them asks for."""
    readers: dict[str, list[Unit]] = {}
    for unit in units:
        if unit.node.name in chosen and unit.weight is not None:
            readers.setdefault(str(unit.weight.target), []).append(unit)
    points = []
    for tensor, layers in readers.items():
        bits = max(chosen[unit.node.name].weights or _FULL for unit in layers)
        shape = shape_of(layers[0].weight)  # type: ignore[arg-type]  # a layer has one
        grid = weight_grid(config, bits)
        if grid.group is not None and (len(shape) != 2 or shape[1] % grid.group):
            grid = weight_grid(config.model_copy(update={"granularity": "channel"}), bits)
        points.append(WeightPoint(tensor, tuple(unit.node.name for unit in layers), grid,
                                  _scale_shape(grid, shape)))
    return tuple(points)


def _scale_shape(grid: Grid, shape: tuple[int, ...]) -> tuple[int, ...]:
    if grid.group is not None:
        return shape[0], shape[1] // grid.group
    return () if grid.axis is None else (shape[grid.axis],)
