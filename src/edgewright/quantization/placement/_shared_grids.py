"""Collect which values are quantized with how many bits, and which of them share a grid."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Final, final

import torch
from torch import Tensor
from torch.fx import Graph, Node

from edgewright.graph import alias_root, argument, mutates_in_place, ops, tensor_of
from edgewright.quantization.placement._points import ActivationPoint, ValueUse
from edgewright.quantization.scheme import Scheme

aten = torch.ops.aten
FULL: Final = 8  # bits of values that no layer reads with fewer bits

_MOVERS: Final = (
    ops.RESHAPES | ops.UNFLATTENINGS | ops.PERMUTATIONS | ops.SLICES | ops.SPLITS | ops.PADS
    | ops.COPIES | ops.DROPOUTS | ops.INTEGER_MAX_POOLS | {ops.ITEM})


def is_data_movement(node: Node) -> bool:
    """Whether a call only moves or selects values, so that its result has its input's grid.

    Padding with infinity does not count, because no grid represents infinity.
    """
    return node.target in _MOVERS and not any(
        isinstance(arg, float) and math.isinf(arg) for arg in node.args)


def pads_with_infinity(node: Node) -> bool:
    """Whether a call pads with infinity, which no grid represents."""
    return node.target in ops.PADS and not is_data_movement(node)


def joined_values(node: Node) -> list[Node]:
    """The values that a concatenation or a route joins or selects from; empty for other calls."""
    if node.target is aten.cat.default:
        return node.all_input_nodes
    return list(argument(node, "outputs")) if node.target is ops.ROUTE else []


def is_output(value: Node) -> bool:
    """Whether a value is a model output, or becomes one by data movement, joining and routing."""
    return any(user.op == "output" or ((is_data_movement(user) or value in joined_values(user))
                                       and is_output(user)) for user in value.users)


def decides_route(value: Node) -> bool:
    """Whether a route's index is computed from a value by comparisons.

    Such a value is not quantized: scores that round to the same integer would be a tie.
    """
    return any((user.target is ops.ROUTE and argument(user, "index") is value)
               or ((is_data_movement(user) or _is_integer(user)) and decides_route(user))
               for user in value.users)


def _is_integer(node: Node) -> bool:
    value = tensor_of(node)
    return value is not None and not value.is_floating_point()


def origin(value: Node) -> Node:
    """The node that computed a value, before any data movement."""
    while is_data_movement(value):
        value = value.all_input_nodes[0]
    return value


def mutated_in_place(graph: Graph) -> set[Node]:
    """Values that are modified in place after they were computed, as ``x`` by ``x[:, 0] = y``.

    They cannot be quantized: the quantized result is a different tensor, which the write would not
    reach.
    """
    families: dict[Node, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        families[alias_root(node)].append(node)
    return {member for family in families.values()
            for call in family if mutates_in_place(call)
            if any(user > call for value in family if value < call for user in value.users)
            for member in family}


@final
class SharedGrids:
    """Collects the bits with which each value is read, and the values quantized for all readers.

    Args:
        graph: A graph in floating point.
        scheme: The grids and the rules of the target.
    """

    def __init__(self, graph: Graph, scheme: Scheme) -> None:
        self._graph = graph
        self._scheme = scheme
        self._one_grid = scheme.target.one_grid
        self._mutated = mutated_in_place(graph)
        self._requests: dict[Node, dict[str, int]] = {}
        self._for_all: dict[Node, Node] = {}  # value -> value whose grid it shares

    def request(self, value: Node, reader: Node, bits: int) -> None:
        """Request that a reader gets a value with ``bits`` bits."""
        if value not in self._mutated:
            self._requests.setdefault(value, {})[reader.name] = bits

    def quantize_for_all(self, value: Node) -> None:
        """Quantize a value for all its readers, unless it is a model output or decides a route."""
        if value not in self._mutated and not is_output(value) and not decides_route(value):
            self._for_all[value] = value

    def points(self) -> tuple[ActivationPoint, ...]:
        """The collected points after propagating grids; those for all readers come first."""
        self._propagate_grids()
        classes: dict[Node, list[Node]] = {}
        for value in self._for_all:
            classes.setdefault(self._root(value), []).append(value)
        bits = {root: max(chain.from_iterable(map(self._bits_read, members)), default=FULL)
                for root, members in classes.items()}
        found = [ActivationPoint(root.name, self._scheme.activation_grid(bits[root]),
                                 tuple(ValueUse(value.name, None) for value in members
                                       if isinstance(value.meta["val"], Tensor)))
                 for root, members in classes.items()]
        return (*found, *self._coarser_points(bits))

    def _propagate_grids(self) -> None:
        """Propagate grids through data movement, concatenation and routes."""
        for node in self._graph.nodes:
            sources = self._sources(node)
            if (not sources or node in self._mutated or is_output(node)
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
        if joined := joined_values(node):
            return joined
        if is_data_movement(node) or (node.target in ops.INTEGER_AVERAGES and self._one_grid):
            return node.all_input_nodes[:1]
        return []

    def _root(self, value: Node) -> Node:
        while self._for_all[value] is not value:
            value = self._for_all[value]
        return value

    def _bits_read(self, value: Node) -> Iterator[int]:
        """The bits that each reader needs; the full bits for readers in floating point."""
        requests = self._requests.get(value, {})
        for user in value.users:
            passes_on = user in self._for_all and self._root(user) is self._root(value)
            is_size = isinstance(user.meta.get("val"), int | torch.SymInt)
            if not passes_on and not is_size:
                yield requests.get(user.name, FULL)

    def _coarser_points(self, bits: dict[Node, int]) -> Iterator[ActivationPoint]:
        """Points for values that only some readers read quantized, or with fewer bits."""
        for value, requests in self._requests.items():
            given = bits[self._root(value)] if value in self._for_all else None
            for requested in sorted(set(requests.values()) - {given}, reverse=True):
                readers = tuple(reader for reader, want in requests.items() if want == requested)
                whole = given is None and len(set(requests.values())) == 1
                name = value.name if whole else f"{value.name}_{requested}bit"
                yield ActivationPoint(name, self._scheme.activation_grid(requested),
                                      (ValueUse(value.name, readers),),
                                      dynamic=self._scheme.activation_mode == "dynamic")
