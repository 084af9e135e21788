"""Blocks, widths and bits of a program, decided together in one integer program.

The decisions are: whether each residual block stays (`Keep`), the width of each channel group
(`Width`), and the bits of each quantized weight (`Bits`). The cost of a layer is a table over its
input width, its output width and either its bits or whether its block stays; see `ChoiceProblem`.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

from edgewright.allocation._choices import ChoiceProblem, Solution, Table
from edgewright.allocation._cost_model import Bound, Lookup, drop_dominated, live_bytes
from edgewright.allocation._latency_table import LatencyTable
from edgewright.allocation._linearize import linearize
from edgewright.channels import (
    Branch,
    ChannelGroups,
    Polynomial,
    SymbolicShapes,
    find_branch_calls,
)
from edgewright.graph import FLOAT_BITS, count_macs, weight_of
from edgewright.program import Program, foldable_norm, parameter_nodes

_COMPUTED_BYTES: Final = 1  # of an activation, in 8 bits
_SCALE_BYTES: Final = 4     # of each output channel's scale


class Keep(NamedTuple):
    """Whether a block stays: option 0 keeps it, option 1 removes it."""

    block: str


class Width(NamedTuple):
    """The width of a channel group: its options are the space's widths of this group."""

    group: int


class Bits(NamedTuple):
    """The bits of a weight: the space's bits, and as last option "removed" if it is in a block."""

    weight: str


@final
@dataclass(frozen=True)
class JointSpace:
    """What can be decided about a program.

    Attributes:
        program: In floating point.
        groups: Its channel groups.
        widths: For each group, the numbers of channels it may keep, ascending.
        blocks: Branches that may be removed, of which none contains another.
        bits: For each weight to be quantized, the numbers of bits to choose from.
    """

    program: Program
    groups: ChannelGroups
    widths: Sequence[NDArray[np.int64]]
    blocks: Sequence[Branch] = ()
    bits: Mapping[str, Sequence[int]] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Damages:
    """Predicted rise of the loss by each decision.

    Attributes:
        blocks: Without a block, by its name.
        widths: For each group, with each of its widths.
        bits: For each quantized weight, with each of its numbers of bits.
        pairs: Without two blocks, minus the rises without each of them.
    """

    blocks: Mapping[str, float]
    widths: Sequence[NDArray[np.float64]]
    bits: Mapping[str, Sequence[float]]
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def scale(self, blocks: float = 1.0, widths: float = 1.0, bits: float = 1.0) -> Damages:
        """Damages multiplied by a factor for each kind of decision."""
        return Damages({name: blocks * value for name, value in self.blocks.items()},
                       [widths * values for values in self.widths],
                       {name: [bits * value for value in values]
                        for name, values in self.bits.items()},
                       {names: blocks * value for names, value in self.pairs.items()})


@final
@dataclass(frozen=True)
class JointAnswer:
    """What was decided, by name, so that it can be written into a recipe.

    Attributes:
        removed: Names of the blocks to remove, in graph order.
        widths: Channels to keep, by the name of each group that loses some.
        bits: Bits of every quantized weight that stays.
        damage: Predicted rise of the loss.
        costs: Predicted costs.
        gap: Relative distance from the least damage that the search could not rule out.
    """

    removed: tuple[str, ...]
    widths: Mapping[str, int]
    bits: Mapping[str, int]
    damage: float
    costs: Mapping[str, float]
    gap: float


def make_joint_problem(space: JointSpace, damages: Damages, limits: Mapping[str, float],
                       latency: LatencyTable | None = None) -> ChoiceProblem:
    """Make the integer program of a space.

    The size has the bits of the weights, a scale per output channel, and biases; a batch norm that
    is folded into its layer counts as a bias. Multiply-accumulates are exact unless a cost depends
    on three widths, which is expanded to first order around the full ones. Peak memory ignores
    that blocks may go.

    Args:
        space: What can be decided.
        damages: What each decision costs in loss.
        limits: Limits on "size" and "ram" in bytes, "macs" in multiply-accumulates, and "latency"
            in milliseconds.
        latency: Times of the layers; needed for a limit on latency.

    Example:
        >>> import torch
        >>> from edgewright.allocation import solve_choices
        >>> from edgewright.channels import find_groups
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> space = JointSpace(program, find_groups(program), [np.array([4, 8])],
        ...                    bits={"0.weight": (4, 8), "1.weight": (4, 8)})
        >>> damages = Damages({}, [np.array([0.5, 0.0])],
        ...                   {"0.weight": [0.1, 0.0], "1.weight": [0.9, 0.0]})
        >>> found, = solve_choices(make_joint_problem(space, damages, {"macs": 56, "size": 140}))
        >>> read_answer(space, found).bits, found.costs["size"]
        ({'0.weight': 4, '1.weight': 8}, 128.0)
    """
    decisions = _decisions(space)
    builder = _TableBuilder(space, {name: place for place, name in enumerate(decisions)})
    costs: dict[str, Sequence[Sequence[Table]]] = {
        "size": [builder.sizes()], "macs": [builder.macs()]}
    if "ram" in limits:
        costs["ram"] = builder.memory()
    if latency is not None:
        costs["latency"] = [builder.latencies(latency)]
    return ChoiceProblem(decisions, _damage_tables(space, damages), costs, dict(limits))


def read_answer(space: JointSpace, solution: Solution) -> JointAnswer:
    """Read a solution of a space's problem."""
    removed = tuple(block.name for block in space.blocks
                    if solution.options[Keep(block.name)] == 1)
    gone = {tensor for block in space.blocks if block.name in removed for tensor in block.tensors}
    widths = {group.name: int(space.widths[index][solution.options[Width(index)]])
              for index, group in enumerate(space.groups.groups)
              if any(tensor not in gone for tensor, _ in group.slices)}
    return JointAnswer(
        removed,
        {group.name: widths[group.name] for group in space.groups.groups
         if widths.get(group.name, len(group.channels)) < len(group.channels)},
        {weight: options[solution.options[Bits(weight)]] for weight, options in space.bits.items()
         if weight not in gone},
        solution.damage, dict(solution.costs), solution.gap)


def _decisions(space: JointSpace) -> dict[Hashable, int]:
    inside = {tensor for block in space.blocks for tensor in block.tensors}
    return {**{Keep(block.name): 2 for block in space.blocks},
            **{Width(index): len(widths) for index, widths in enumerate(space.widths)},
            **{Bits(weight): len(options) + (weight in inside)
               for weight, options in space.bits.items()}}


def _damage_tables(space: JointSpace, damages: Damages) -> list[Table]:
    """The damage of each decision; a weight is removed exactly if its block is.

    Of two operands of one addition, one must stay.
    """
    tables = [Table((Keep(block.name),), np.array([0.0, damages.blocks[block.name]]))
              for block in space.blocks]
    tables += [Table((Keep(first.name), Keep(second.name)), np.array([[0.0, 0.0], [0.0, np.inf]]))
               for first, second in itertools.combinations(space.blocks, 2)
               if first.total == second.total]
    tables += [Table((Keep(first), Keep(second)), np.array([[0.0, 0.0], [0.0, value]]))
               for (first, second), value in damages.pairs.items()]
    tables += [Table((Width(index),), values) for index, values in enumerate(damages.widths)]
    owner = {tensor: block.name for block in space.blocks for tensor in block.tensors}
    for weight in space.bits:
        values = np.array(damages.bits[weight], dtype=np.float64)
        if weight not in owner:
            tables.append(Table((Bits(weight),), values))
            continue
        together = np.full((2, len(values) + 1), np.inf)
        together[0, :-1], together[1, -1] = values, 0.0
        tables.append(Table((Keep(owner[weight]), Bits(weight)), together))
    return tables


@final
class _TableBuilder:
    """Builds the cost tables of a space."""

    def __init__(self, space: JointSpace, order: Mapping[Hashable, int]) -> None:
        self._space, self._order = space, order
        self._shape = SymbolicShapes(space.groups)
        self._owner_of_tensor = {tensor: block.name for block in space.blocks
                                 for tensor in block.tensors}
        self._owner_of_call = {name: block.name for block in space.blocks
                               for name in find_branch_calls(space.program, block)}
        self._full = np.array([len(group.channels) for group in space.groups.groups],
                              dtype=np.int64)

    def sizes(self) -> list[Table]:
        """Bytes of every stored tensor."""
        folded = _find_folded_tensors(self._space.program)
        nodes = parameter_nodes(self._space.program.graph)
        return list(itertools.chain.from_iterable(
            self._size_of(node) for node in nodes if str(node.target) not in folded))

    def macs(self) -> list[Table]:
        """Multiply-accumulates of every call."""
        found: list[Table] = []
        for node in self._space.program.calls():
            count = count_macs(node, self._shape)  # type: ignore[arg-type]
            found += self._times_kept(Bound(_polynomial(count)), node)
        return found

    def latencies(self, latency: LatencyTable) -> list[Table]:
        """Milliseconds of every layer in a table of latencies."""
        found: list[Table] = []
        for node, times, inputs, outputs in latency.match_layers(self._space.program, self._shape):
            bound = Bound(Polynomial({}), (Lookup(times, inputs, outputs),))
            found += self._times_kept(bound, node)
        return found

    def memory(self) -> list[list[Table]]:
        """Peak bytes of activations in 8 bits: one bound per point at which a tensor is freed."""
        share = 8 * _COMPUTED_BYTES / FLOAT_BITS
        totals = [Polynomial({}) + share * total
                  for total in live_bytes(self._space.program, self._shape)]
        return [self._tables(Bound(total)) for total in drop_dominated(totals)]

    def _size_of(self, node: Node) -> Iterator[Table]:
        name, shape = str(node.target), self._shape(node)
        entries = _polynomial(1.0)
        for size in shape:
            entries = entries * size
        if name not in self._space.bits:
            owner = self._owner_of_tensor.get(name)
            yield from self._tables(Bound(entries * (FLOAT_BITS / 8)),
                                    None if owner is None else Keep(owner))
            return
        bits = [*self._space.bits[name]]
        kept = [1.0] * len(bits) + [0.0] * (name in self._owner_of_tensor)
        packed = [count / 8 for count in bits] + [0.0] * (name in self._owner_of_tensor)
        yield from self._tables(Bound(entries), Bits(name), packed)
        yield from self._tables(Bound(_SCALE_BYTES * _polynomial(shape[0])), Bits(name), kept)

    def _times_kept(self, bound: Bound, node: Node) -> list[Table]:
        """The tables of a call's cost, which is 0 if its block is removed."""
        owner = self._owner_of_call.get(node.name)
        if owner is None:
            return self._tables(bound)
        weight = weight_of(node)
        name = None if weight is None else str(weight.target)
        if name in self._space.bits and name in self._owner_of_tensor:
            kept = [1.0] * len(self._space.bits[name]) + [0.0]
            return self._tables(bound, Bits(name), kept)
        return self._tables(bound, Keep(owner))

    def _tables(self, bound: Bound, factor: Hashable | None = None,
                factors: Sequence[float] = (1.0, 0.0)) -> list[Table]:
        """The tables of a cost times a factor for each option of a decision."""
        found = []
        for groups, costs in self._by_widths(bound):
            decisions: tuple[Hashable, ...] = tuple(map(Width, groups))
            values = costs
            if factor is not None:
                decisions = (*decisions, factor)
                values = np.multiply.outer(costs, np.array(factors))
            places = sorted(range(len(decisions)), key=lambda place: self._order[decisions[place]])
            if decisions:
                found.append(Table(tuple(decisions[place] for place in places),
                                   values.transpose(places)))
            elif values:  # a constant: any decision carries it
                name, count = next(iter(_decisions(self._space).items()))
                found.append(Table((name,), np.full(count, float(values))))
        return found

    def _by_widths(self, bound: Bound) -> Iterator[tuple[tuple[int, ...], NDArray[np.float64]]]:
        """A cost as a sum of tables over the options of at most two groups each."""
        groups = sorted(bound.polynomial.groups.union(
            *(lookup.inputs.groups | lookup.outputs.groups for lookup in bound.lookups)))
        if len(groups) <= 2:
            yield tuple(groups), self._grid(bound, groups)
            return
        choices = self._space.widths
        cost = linearize(bound, choices, self._full)
        if cost.constant:
            yield (), np.array(cost.constant)
        for group, values in cost.alone.items():
            yield (group,), np.asarray(values)
        for (group, form), values in cost.products.items():
            for other, coefficient in form:
                yield (group, other), np.multiply.outer(
                    values, coefficient * choices[other].astype(np.float64))

    def _grid(self, bound: Bound, groups: Sequence[int]) -> NDArray[np.float64]:
        """A cost at every combination of the widths of its groups."""
        choices = [self._space.widths[group].tolist() for group in groups]
        values, widths = [], self._full.copy()
        for combination in itertools.product(*choices):
            widths[list(groups)] = combination
            values.append(bound.polynomial.at(widths)
                          + sum(lookup.at(widths) for lookup in bound.lookups))
        return np.array(values).reshape([len(options) for options in choices])


def _polynomial(value: Polynomial | float) -> Polynomial:
    return Polynomial({}) + value


def _find_folded_tensors(program: Program) -> set[str]:
    """Tensors of batch norms that are folded into a layer, except for their biases."""
    folded = set()
    for node in program.calls():
        norm = foldable_norm(node)
        if norm is not None:
            folded |= {str(source.target) for source in norm.all_input_nodes
                       if source.op == "get_attr" and source is not norm.args[2]}
    return folded


def select_blocks(branches: Sequence[Branch]) -> tuple[Branch, ...]:
    """Branches of which none shares a tensor with another, the smallest first choice.

    Example:
        >>> inner = Branch("a.b", "add", 1, ("a.b.weight",), 5)
        >>> outer = Branch("a", "add_1", 1, ("a.b.weight", "a.c.weight"), 9)
        >>> [branch.name for branch in select_blocks([outer, inner])]
        ['a.b']
    """
    taken: set[str] = set()
    chosen = set()
    for branch in sorted(branches, key=lambda branch: len(branch.tensors)):
        if taken.isdisjoint(branch.tensors):
            taken |= set(branch.tensors)
            chosen.add(branch.tensors)
    return tuple(branch for branch in branches if branch.tensors in chosen)
