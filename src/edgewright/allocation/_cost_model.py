"""Costs as functions of the groups' widths, computed without slicing."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal, TypeAlias, final

import numpy as np
from torch import Tensor
from torch.fx import Node

from edgewright.allocation._latency_table import LatencyTable, LayerTimes
from edgewright.channels import ChannelGroups, Polynomial, PolynomialStack, SymbolicShapes, Widths
from edgewright.errors import UsageError
from edgewright.graph import count_macs, ops, read_recurrent_layer, shape_of
from edgewright.program import Program, find_live_tensors, parameter_nodes, stored_bytes

PruningTarget: TypeAlias = Literal["macs", "params", "channels", "ram", "latency"]


@dataclass(frozen=True)
class Lookup:
    """A layer's measured latency as a function of its input and output channels."""

    times: LayerTimes
    inputs: Polynomial
    outputs: Polynomial

    def at(self, widths: Widths) -> float:
        """Milliseconds for the given widths, one per group."""
        return self.times.at(self.inputs.at(widths), self.outputs.at(widths))


@dataclass(frozen=True)
class Bound:
    """One cost to be limited: a polynomial plus looked-up latencies."""

    polynomial: Polynomial
    lookups: tuple[Lookup, ...] = ()


@final
class CostModel:
    """The cost for one target: the largest of its bounds.

    Most targets have one bound. Peak memory has one for each point at which a tensor is freed: the
    sum of the tensors alive then, as in `Costs.peak_activation_bytes`.

    Attributes:
        target: What is counted: multiply-accumulates, parameters, channels, peak bytes of
            activations, or measured latency.
        groups: The program's channel groups.
        bounds: The bounds, as functions of the widths.
        full: The cost with all channels.

    Raises:
        UsageError: ``target="latency"`` without a table.

    Example:
        >>> from edgewright.channels import find_groups
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> cost = CostModel(program, find_groups(program), "macs")
        >>> cost.full, cost.at(np.array([6]))
        (56.0, 42.0)
    """

    def __init__(self, program: Program, groups: ChannelGroups, target: PruningTarget,
                 latency: LatencyTable | None = None) -> None:
        if target == "latency" and latency is None:
            raise UsageError("target='latency' needs a table of measured latencies; "
                             "pass one from measure_layers")
        self.target = target
        self._program = program
        self.groups = groups
        self._latency = latency
        self.bounds = self._build_bounds()
        self._stack = PolynomialStack([bound.polynomial for bound in self.bounds])
        self.full = self.at(np.array([len(group.channels) for group in groups.groups],
                                     dtype=np.int64))

    def at(self, widths: Widths) -> float:
        """The cost for the given widths, one per group."""
        looked_up = [sum(lookup.at(widths) for lookup in bound.lookups) for bound in self.bounds]
        return float((self._stack.at(widths) + looked_up).max())

    def without(self, removed: Collection[int]) -> float:
        """The exact cost without the given channels, counted from each tensor's indices."""
        if self.target == "channels":
            return sum(len(group.channels) for group in self.groups.groups) - len(removed)
        shape = self.groups.shapes_without(removed)
        if self.target == "ram":
            return float(max(live_bytes(self._program, shape)))
        if self.target == "latency" and self._latency is not None:
            return sum(times.at(inputs, outputs) for _, times, inputs, outputs
                       in self._latency.match_layers(self._program, shape))
        return float(sum(_COUNTS[self.target](self._program, shape)))

    def _build_bounds(self) -> tuple[Bound, ...]:
        if self.target == "channels":
            return (Bound(sum((Polynomial.width(index)
                               for index in range(len(self.groups.groups))), Polynomial({}))),)
        shape = SymbolicShapes(self.groups)
        if self.target == "ram":
            totals = [Polynomial({}) + total for total in live_bytes(self._program, shape)]
            return tuple(map(Bound, drop_dominated(totals)))
        if self.target == "latency" and self._latency is not None:
            return (Bound(Polynomial({}), tuple(
                Lookup(times, inputs, outputs) for _, times, inputs, outputs
                in self._latency.match_layers(self._program, shape))),)
        return (Bound(sum(_COUNTS[self.target](self._program, shape), Polynomial({}))),)


Shape: TypeAlias = Callable[[Node], tuple[Any, ...]]


def _macs(program: Program, shape: Shape) -> Iterator[Any]:
    return (count_macs(node, shape) for node in program.calls())


def _parameters(program: Program, shape: Shape) -> Iterator[Any]:
    return (math.prod(shape(node)) for node in parameter_nodes(program.graph))


_COUNTS: Final[dict[PruningTarget, Callable[[Program, Shape], Iterator[Any]]]] = {
    "macs": _macs, "params": _parameters}


def live_bytes(program: Program, shape: Shape) -> list[Any]:
    """Bytes of inputs and activations alive at each point at which a tensor is freed."""
    moments = find_live_tensors(program.graph)
    sizes = {node: _bytes(node, shape) for node in dict.fromkeys(chain.from_iterable(moments))}
    return [sum(sizes[node] for node in nodes) for nodes in moments]


def _bytes(node: Node, shape: Shape) -> Any:
    """Bytes of a node's result with its shape from ``shape``; other tuples of tensors unchanged."""
    if node.target in ops.RECURRENT_LAYERS:
        return _recurrent_bytes(node, shape)
    if not isinstance(node.meta.get("val"), Tensor):
        return stored_bytes(node)
    elements = math.prod(shape_of(node))
    return math.prod(shape(node)) * (stored_bytes(node) / elements if elements else 0)


def _recurrent_bytes(node: Node, shape: Shape) -> Any:
    """Bytes of the outputs of all steps, and of the last states, which are as the initial ones."""
    layer = read_recurrent_layer(node)
    states = [shape(state) for state in layer.states]
    directions, _, width = states[0]
    outputs = math.prod(shape(layer.source)[:-1]) * directions * width
    return (outputs + sum(map(math.prod, states))) * node.meta["val"][0].element_size()


def drop_dominated(polynomials: Sequence[Polynomial]) -> tuple[Polynomial, ...]:
    """The polynomials that no other dominates in every coefficient; one of equal ones."""
    monomials = sorted({monomial for polynomial in polynomials for monomial in polynomial.terms})
    distinct = {tuple(polynomial.terms.get(monomial, 0.0) for monomial in monomials): polynomial
                for polynomial in polynomials}
    rows = np.array(list(distinct), dtype=np.float64).reshape(len(distinct), len(monomials))
    return tuple(polynomial for row, polynomial in zip(rows, distinct.values(), strict=True)
                 if (row <= rows).all(axis=1).sum() == 1)
