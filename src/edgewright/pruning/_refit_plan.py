"""Which layers are fitted after branches were removed, to what, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple, final

from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgewright.channels import is_plain_addition
from edgewright.graph import (
    argument,
    count_reads,
    op_name,
    ops,
    sparse_tensors,
    stored_tensors,
)
from edgewright.program import Program, foldable_norm
from edgewright.pruning._least_squares import FITTED_CONVOLUTIONS, MOST_REGRESSORS

# A value and the value after these differ only where a rectifier clamps.
TRANSPARENT: Final = ops.RECTIFIERS | ops.COPIES | ops.DROPOUTS
AFFINE: Final = ("weight", "bias", "running_mean", "running_var")  # of a norm


@final
@dataclass(frozen=True)
class Unit:
    """A layer, and the batch norm that only it feeds.

    Attributes:
        layer: The layer.
        norm: The batch norm; None if there is none.
    """

    layer: Node
    norm: Node | None

    @property
    def end(self) -> Node:
        """The node with the unit's result."""
        return self.layer if self.norm is None else self.norm

    @property
    def name(self) -> str:
        """Name of the layer."""
        return str(argument(self.layer, "weight").target).removesuffix(".weight")


class Fit(NamedTuple):
    """What a unit is fitted to: ``target`` without the ``other`` operand of the addition after it.

    Attributes:
        unit: What is fitted.
        target: Name of the original program's node whose value is to be reproduced.
        other: The other operand; None if the unit's own result is to be the target.
    """

    unit: Unit
    target: str
    other: Node | None


class LastReads(NamedTuple):
    """What is not needed any more after a node was run.

    Attributes:
        nodes: Nodes of the shortened program.
        originals: Names of nodes of the original program.
    """

    nodes: tuple[Node, ...]
    originals: tuple[str, ...]


@final
@dataclass(frozen=True)
class RefitPlan:
    """What to run of the shortened program, and what to fit.

    Attributes:
        order: The calls to run: those whose value changes, each after its inputs, and the output.
        fits: The fit before a layer is run, by the layer.
        skipped: Why a layer whose value changes is not fitted, by its name.
    """

    order: tuple[Node, ...]
    fits: Mapping[Node, Fit]
    skipped: Mapping[str, str]

    @cached_property
    def _run(self) -> frozenset[Node]:
        return frozenset(self.order)

    @cached_property
    def originals(self) -> frozenset[str]:
        """Names of the original's nodes whose values are needed."""
        return frozenset(name for node in self.order for name in self._original_reads(node))

    @cached_property
    def last_reads(self) -> tuple[LastReads, ...]:
        """What is read for the last time, at each node of ``order``."""
        nodes, names = set[Node](), set[str]()
        found = []
        for node in reversed(self.order):
            read, wanted = set(self.reads(node)), set(self._original_reads(node))
            found.append(LastReads(tuple(read - nodes), tuple(wanted - names)))
            nodes |= read
            names |= wanted
        return tuple(reversed(found))

    def _original_reads(self, node: Node) -> Iterator[str]:
        if node in self.fits:
            yield self.fits[node].target
        yield from (source.name for source in self.reads(node)
                    if source.op != "get_attr" and source not in self._run)

    def reads(self, node: Node) -> tuple[Node, ...]:
        """The nodes whose values are needed when a node of ``order`` is run."""
        fit = self.fits.get(node)
        return (*node.all_input_nodes, *([fit.other] if fit is not None and fit.other else []))


def plan_refit(program: Program, shortened: Program, most_layers: int | None = None) -> RefitPlan:
    """Plan the fits after branches were removed.

    A node of the shortened program that is read in place of another one of the original has to
    reproduce that one's value: its *role*. So what is before a removed branch can make up for it.
    Every other node has to reproduce its own value. If a unit is an operand of an addition, it is
    fitted so that the sum is right: what its other operand is wrong by is made up for as well.

    Args:
        program: The original program.
        shortened: The result of `remove_branches`; its nodes have the original's names.
        most_layers: Number of layers to fit, the first in graph order; None for all.
    """
    return _Planner(program, shortened, most_layers).plan()


@final
class _Planner:
    """Walks through the shortened program once, in order."""

    def __init__(self, program: Program, shortened: Program, most_layers: int | None) -> None:
        self._original = {node.name: node for node in program.graph.nodes}
        self._graph, self._obstacles = shortened.graph, _Obstacles(shortened)
        self._roles = find_roles(program, shortened)
        self._most = most_layers
        self._changed: set[Node] = set()
        self._order: list[Node] = []
        self._fits: dict[Node, Fit] = {}
        self._skipped: dict[str, str] = {}

    def plan(self) -> RefitPlan:
        for node in self._graph.nodes:
            if node.op == "output":
                self._order.append(node)
            elif node.op == "call_function":
                self._visit(node)
        return RefitPlan(tuple(self._order), self._fits, self._skipped)

    def _visit(self, node: Node) -> None:
        fit = self._find_fit(node)
        if fit is not None and not self._is_full():
            self._move_unit(fit.unit)
            self._fits[fit.unit.layer] = fit
            self._changed |= {fit.unit.layer, fit.unit.end, node}
            if node is not fit.unit.end:
                self._order.append(node)
        elif self._is_changed(node):
            self._changed.add(node)
            self._order.append(node)

    def _is_full(self) -> bool:
        return self._most is not None and len(self._fits) >= self._most

    def _move_unit(self, unit: Unit) -> None:
        """Run a unit where it is fitted, and not before."""
        nodes = [unit.layer, *([unit.norm] if unit.norm is not None else [])]
        self._order = [node for node in self._order if node not in nodes]
        self._order += nodes

    def _is_changed(self, node: Node) -> bool:
        """Whether a call reads another node than in the original, or a value that changes."""
        before = self._original.get(node.name)
        return (before is None or _operand_names(node) != _operand_names(before)
                or not self._changed.isdisjoint(node.all_input_nodes))

    def _find_fit(self, node: Node) -> Fit | None:
        """The fit at a node, which is an addition or the end of a unit; None without one."""
        target = self._roles.get(node)
        if target is None:
            return None
        if is_plain_addition(node):
            unit = self._summand(node)
            if unit is None or not (self._is_changed(node) or target != node.name):
                return None
            return Fit(unit, target, _other_operand(node, unit.end))
        unit = self._unit_ending_at(node)
        if unit is None or not (self._is_changed(unit.layer) or target != node.name):
            return None
        if (obstacle := self._obstacles.find(unit)) is not None:
            self._skipped[unit.name] = obstacle
            return None
        return None if self._is_summand(unit) else Fit(unit, target, None)

    def _is_summand(self, unit: Unit) -> bool:
        """Whether a unit is fitted at the addition that reads its result."""
        user = next(iter(unit.end.users))
        return is_plain_addition(user) and self._summand(user) == unit

    def _summand(self, total: Node) -> Unit | None:
        """The last unit that only this addition reads and that can be fitted."""
        for operand in sorted(total.all_input_nodes, reverse=True):
            unit = self._unit_ending_at(operand)
            if (unit is not None and len(operand.users) == 1
                    and self._obstacles.find(unit) is None):
                return unit
        return None

    def _unit_ending_at(self, node: Node) -> Unit | None:
        if node.target is ops.BATCH_NORM:
            layer = node.args[0]
            if isinstance(layer, Node) and layer.target in ops.LAYERS:
                return Unit(layer, node) if foldable_norm(layer) is node else None
            return None
        if node.target not in ops.LAYERS or foldable_norm(node) is not None:
            return None
        return Unit(node, None)


@final
class _Obstacles:
    """Why units cannot be fitted."""

    def __init__(self, shortened: Program) -> None:
        self._tensors = stored_tensors(shortened.graph_module)
        self._reads = count_reads(shortened.graph_module)
        self._sparse = frozenset(sparse_tensors(shortened.graph_module))

    def find(self, unit: Unit) -> str | None:
        """The first reason; None if a unit can be fitted."""
        return next(self._reasons(unit), None)

    def _reasons(self, unit: Unit) -> Iterator[str]:
        layer = unit.layer
        if layer.target is not ops.LINEAR and layer.target not in FITTED_CONVOLUTIONS:
            yield f"{op_name(layer)} is not fitted"
        elif layer.target is not ops.LINEAR and ops.groups_of(layer) != 1:
            yield f"it has {ops.groups_of(layer)} groups"
        weight = self._stored(layer, "weight")
        if weight is None:
            yield "its weight is shared or computed"
        elif weight[0].numel() > MOST_REGRESSORS:
            yield f"it has {weight[0].numel():,} inputs, at most {MOST_REGRESSORS:,} are fitted"
        elif str(argument(layer, "weight").target) in self._sparse:
            yield "zeros of its weight are kept"
        if argument(layer, "bias") is not None and self._stored(layer, "bias") is None:
            yield "its bias is shared or computed"
        if unit.norm is not None and any(
                self._stored(unit.norm, name) is None for name in AFFINE):
            yield "its batch norm has no scale"

    def _stored(self, node: Node, name: str) -> Tensor | None:
        return find_unshared(node, name, self._tensors, self._reads)


def find_unshared(node: Node, name: str, tensors: Mapping[str, Tensor],
                  reads: Mapping[int, int]) -> Tensor | None:
    """The stored tensor of an argument; None if there is none, or something else reads it too."""
    source = argument(node, name)
    tensor = tensors.get(str(source.target)) if isinstance(source, Node) else None
    return tensor if tensor is not None and reads[id(tensor)] == 1 else None


def find_roles(program: Program, shortened: Program) -> dict[Node, str]:
    """For each node of the shortened program, the original's node whose value its readers expect.

    A node is left out if its readers expect different values. Before a rectifier, a copy or a
    dropout, a value is expected to be what is expected after it.
    """
    original = {node.name: node for node in program.graph.nodes}
    roles: dict[Node, str] = {}
    for node in reversed(shortened.graph.nodes):
        expected = set()
        for user in node.users:
            expected |= _expected_of(node, user, original, roles)
        if len(expected) == 1:
            roles[node] = expected.pop()
    return roles


def _expected_of(node: Node, user: Node, original: Mapping[str, Node],
                 roles: Mapping[Node, str]) -> set[str]:
    """What a reader expects of a node."""
    role, before = roles.get(user), original.get(user.name)
    if before is None or (user.target in TRANSPARENT and role is not None and role != user.name):
        return set() if role is None else {role}
    pairs = zip(_operand_names(user), _operand_names(before), strict=True)
    return {then for now, then in pairs if now == node.name}


def _operand_names(node: Node) -> list[str]:
    """Names of the nodes among a call's arguments, in order, with repetitions."""
    return [leaf.name for leaf in pytree.tree_leaves((node.args, node.kwargs))
            if isinstance(leaf, Node)]


def _other_operand(total: Node, operand: Node) -> Node:
    return next(node for node in total.all_input_nodes if node is not operand)
