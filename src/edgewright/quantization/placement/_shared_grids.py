"""Which values are quantised for whom with how many bits, and which of them share a grid."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Final, final

import torch
from torch import Tensor
from torch.fx import Graph, Node

from edgewright.graph import memory_of, ops, writes
from edgewright.quantization.placement._points import ActivationPoint, Place
from edgewright.quantization.scheme import Scheme

aten = torch.ops.aten
FULL: Final = 8  # bits of what no layer reads with fewer

_MOVERS: Final = (
    ops.RESHAPES | ops.UNFLATTENINGS | ops.PERMUTATIONS | ops.SLICES | ops.SPLITS | ops.PADS
    | ops.COPIES | ops.DROPOUTS | ops.INTEGER_MAX_POOLS | {ops.ITEM})


def moves(node: Node) -> bool:
    """Whether a call moves values, or chooses among them: its result lies on its input's grid.

    A padding with infinity does not: no grid holds that.
    """
    return node.target in _MOVERS and not any(
        isinstance(arg, float) and math.isinf(arg) for arg in node.args)


def pads_with_infinity(node: Node) -> bool:
    """Whether a call pads with what lies on no grid."""
    return node.target in ops.PADS and not moves(node)


def is_output(value: Node) -> bool:
    """Whether a value is an output of the model, or part of one: moved and joined only."""
    return any(user.op == "output" or ((moves(user) or user.target is aten.cat.default)
                                       and is_output(user)) for user in value.users)


def origin(value: Node) -> Node:
    """Where a value was computed that has only been moved since."""
    while moves(value):
        value = value.all_input_nodes[0]
    return value


def patched(graph: Graph) -> set[Node]:
    """Values that change after they were computed: ``x[:, 0] = y`` writes into ``x``.

    A quantiser's result is another tensor, which such a write would miss.
    """
    families: dict[Node, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        families[memory_of(node)].append(node)
    return {member for family in families.values()
            for call in family if writes(call)
            if any(user > call for value in family if value < call for user in value.users)
            for member in family}


@final
class SharedGrids:
    """Collects who reads which value with how many bits, and what is quantised for everyone.

    Args:
        graph: In floating point.
        scheme: Its grids, and its target's rules.
    """

    def __init__(self, graph: Graph, scheme: Scheme) -> None:
        self._graph = graph
        self._scheme = scheme
        self._one_grid = scheme.target.one_grid
        self._patched = patched(graph)
        self._asks: dict[Node, dict[str, int]] = {}
        self._for_all: dict[Node, Node] = {}  # a value -> whose grid it lies on

    def ask(self, value: Node, reader: Node, bits: int) -> None:
        """Have a reader get a value with so many bits."""
        if value not in self._patched:
            self._asks.setdefault(value, {})[reader.name] = bits

    def quantize_for_all(self, value: Node) -> None:
        """Have everyone get a value quantised, unless it is an output of the model."""
        if value not in self._patched and not is_output(value):
            self._for_all[value] = value

    def points(self) -> tuple[ActivationPoint, ...]:
        """What was collected, with what moves or joins it; the points for everyone first."""
        self._pass_on()
        classes: dict[Node, list[Node]] = {}
        for value in self._for_all:
            classes.setdefault(self._root(value), []).append(value)
        bits = {root: max(chain.from_iterable(map(self._bits_read, members)), default=FULL)
                for root, members in classes.items()}
        found = [ActivationPoint(root.name, self._scheme.activation_grid(bits[root]),
                                 tuple(Place(value.name, None) for value in members
                                       if isinstance(value.meta["val"], Tensor)))
                 for root, members in classes.items()]
        return (*found, *self._coarser(bits))

    def _pass_on(self) -> None:
        """Let what only moves values, and joins of them, pass their grids on."""
        for node in self._graph.nodes:
            sources = self._sources(node)
            if (not sources or node in self._patched or is_output(node)
                    or not all(s in self._for_all for s in sources)):
                continue
            if node.target is aten.cat.default and not self._one_grid:
                self._for_all[node] = node
                continue
            first = self._root(sources[0])
            self._for_all[node] = first
            for source in sources[1:]:
                self._for_all[self._root(source)] = first

    def _sources(self, node: Node) -> list[Node]:
        if node.target is aten.cat.default:
            return node.all_input_nodes
        if moves(node) or (node.target in ops.INTEGER_AVERAGES and self._one_grid):
            return node.all_input_nodes[:1]
        return []

    def _root(self, value: Node) -> Node:
        while self._for_all[value] is not value:
            value = self._for_all[value]
        return value

    def _bits_read(self, value: Node) -> Iterator[int]:
        """Bits that each reader has to get a value with; all, where it computes in floats."""
        asks = self._asks.get(value, {})
        for user in value.users:
            passes_on = user in self._for_all and self._root(user) is self._root(value)
            is_size = isinstance(user.meta.get("val"), int | torch.SymInt)
            if not passes_on and not is_size:
                yield asks.get(user.name, FULL)

    def _coarser(self, bits: dict[Node, int]) -> Iterator[ActivationPoint]:
        """What only some read, or with fewer bits than there are for everyone."""
        for value, asks in self._asks.items():
            given = bits[self._root(value)] if value in self._for_all else None
            for asked in sorted(set(asks.values()) - {given}, reverse=True):
                readers = tuple(reader for reader, want in asks.items() if want == asked)
                whole = given is None and len(set(asks.values())) == 1
                name = value.name if whole else f"{value.name}_{asked}bit"
                yield ActivationPoint(name, self._scheme.activation_grid(asked),
                                      (Place(value.name, readers),),
                                      dynamic=self._scheme.mode == "dynamic")
