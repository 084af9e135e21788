"""Channel groups: which tensor slices must be removed together, derived from the graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from edgewright.channels._axes import (
    BATCH,
    Axis,
    Dim,
    Dims,
    axes_of,
    fixed,
    flatten,
    has_batch,
    pin,
    tracked,
)
from edgewright.channels._couplings import Couplings, LabelArray
from edgewright.channels._distributions import find_fixed_distributions, is_row
from edgewright.channels._incidence import Incidence
from edgewright.channels._table import format_groups_table
from edgewright.channels.operators import Labels, propagate
from edgewright.graph import (
    Shape,
    ShapeOf,
    calls,
    count_macs,
    find_input_dims,
    match_tensors,
    shape_of,
    stored_tensors,
    tensor_of,
)
from edgewright.program import Program, parameter_nodes

TensorDim = tuple[str, int]


@dataclass(frozen=True)
class ChannelGroup:
    """Interchangeable channels: they pass through the same tensors.

    Attributes:
        name: The first weight that produces them. If a dimension is a product (heads times head
            width), ``by n`` is appended, where n is the number of indices per channel.
        slices: Name and dimension of every tensor that is sliced when a channel is removed.
        channels: One label per channel; a channel is kept or removed as a whole.
        products: Numbers of the products (heads times head width) of which its channels are a
            factor; groups that share one shrink the same dimension.
    """

    name: str
    slices: tuple[TensorDim, ...]
    channels: tuple[int, ...]
    products: frozenset[int] = frozenset()


class Contraction(NamedTuple):
    """A sum of products: ``node`` sums over dimension ``dim`` of its input ``source``."""

    node: Node
    source: Node
    dim: int


@final
class ChannelGroups:
    """The channel groups of one program, and the weights that cannot be pruned, with reasons.

    Attributes:
        groups: Every group that can be pruned.
        kept: Weight name to the reason why its output channels cannot be pruned.
        contractions: Every sum over channels.
        whole_reads: Calls that read a whole dimension that can be pruned (norms, softmax, means).

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
        >>> found = find_groups(Program.capture(model, torch.zeros(1, 4)))
        >>> [(group.name, len(group.channels)) for group in found.groups]
        [('0.weight', 8)]
        >>> found.kept
        {'1.weight': 'it is an output'}
        >>> found
        <ChannelGroups: 8 channels in 1 group; 1 weight kept>
        >>> print(found)
        group     channels  sliced layers [dimension], or reason
        0.weight         8  0[0], 1[1]
        1.weight      kept  it is an output
    """

    def __init__(self, module: GraphModule, ignore: tuple[str, ...]) -> None:
        self._graph = module.graph
        self.couplings = Couplings()
        self.contractions: list[Contraction] = []
        self.whole_reads: set[Node] = set()
        self._dims: dict[Node, Labels] = {}
        self._tensors: dict[str, Dims] = {}
        self._recorded: dict[Node, Dim] = {}
        self._track(module)
        self._flatten_all()
        self._ignore(ignore)
        self._keep_distributions(stored_tensors(module))
        self._classes = self.couplings.solve()
        self._free = np.flatnonzero(self._is_free())
        self._atoms = csr_array(self._classes.atoms[:, self._free])
        self._known: dict[int, Incidence] = {}
        self._incidence = {place: self._atoms_of(labels)
                           for place, labels in self._stored_labels()}
        self.groups = self._collect(stored_tensors(module))
        self.channels: LabelArray = np.array(
            [channel for group in self.groups for channel in group.channels], dtype=np.int64)
        self.kept = self._reasons()

    def __str__(self) -> str:
        return format_groups_table(((group.name, len(group.channels), group.slices)
                                    for group in self.groups), self.kept)

    def __repr__(self) -> str:
        channels, groups, kept = (_count_noun(len(things), noun) for things, noun in (
            (self.channels, "channel"), (self.groups, "group"), (self.kept, "weight")))
        return f"<ChannelGroups: {channels} in {groups}; {kept} kept>"

    # Interface for the rules of operators; see `LabelTracker`.

    def results(self, value: Any) -> Labels:
        """Dimensions of a node's result; a list of them if it has several results."""
        return self._dims.get(value)

    def dims(self, value: Any) -> Dims:
        """Dimensions of the tensor a node computes."""
        known = self._dims.get(value)
        return known if isinstance(known, tuple) else ()

    def flat(self, value: Any, dim: int) -> LabelArray | None:
        """One label per index along a dimension, None if it is not tracked."""
        dims = list(self.dims(value))
        labels = flatten(self.couplings, dims[dim], "it is merged with the batch")
        if len(axes_of(dims[dim])) > 0:
            dims[dim] = pin(self.couplings, dims[dim], "") if labels is None else tracked(labels)
            self._dims[value] = tuple(dims)
        return labels

    def pin(self, value: Any, dim: int, reason: str) -> None:
        """Record that a dimension cannot be pruned."""
        pin(self.couplings, self.dims(value)[dim], reason)

    def contract(self, node: Node, source: Any, dim: int) -> None:
        """Record that ``node`` sums products over that dimension of its input ``source``."""
        self.contractions.append(Contraction(node, source, dim))

    def record_whole_read(self, node: Node) -> None:
        """Record that ``node`` reads a whole dimension: removed channels are excluded from it."""
        self.whole_reads.add(node)

    def record_dim(self, node: Node, dim: Dim) -> None:
        """Record a dimension whose size is an argument of ``node``."""
        self._recorded[node] = dim

    # Results, available after the graph has been read.

    def labels_of(self, value: Any) -> tuple[LabelArray | None, ...]:
        """Labels of each dimension of a node's result, one per index.

        None for a dimension that cannot be pruned or is merged with the batch.
        """
        return tuple(_single_axis(dim) for dim in self.dims(value))

    @cached_property
    def merges_batch(self) -> bool:
        """Whether channels are merged with the batch anywhere."""
        return any(has_batch(dim) and bool(axes_of(dim))
                   for node in self._dims for dim in self.dims(node))

    def tensor(self, name: str) -> tuple[LabelArray | None, ...]:
        """Labels of a stored tensor's dimensions, in the form of `labels_of`."""
        return tuple(_single_axis(dim) for dim in self._tensors[name])

    def recorded_dim(self, node: Node) -> Dim:
        """The dimension that a rule recorded for ``node``."""
        return self._recorded[node]

    def slices(self, channel: int) -> dict[TensorDim, NDArray[np.int64]]:
        """Indices a channel occupies in every stored tensor."""
        if channel not in self._group_of:
            return {}
        column = int(np.searchsorted(self._free, channel))
        return {place: self._incidence[place].rows(column)
                for place in self._group_of[channel].slices}

    def incidence(self, labels: LabelArray | None) -> Incidence:
        """Which channels each index of a dimension belongs to.

        Args:
            labels: Labels of the dimension, from `labels_of` or `tensor`; None if it has none.

        Returns:
            Pairs of an index and a position in `channels`.
        """
        if labels is None:
            return Incidence.none(len(self.channels))
        found = Incidence.of(self._atoms, self._classes.root[labels])
        positions = self._positions[found.columns]
        order = np.argsort(positions, kind="stable")
        order = order[positions[order] >= 0]
        return Incidence(found.indices[order], positions[order], len(self.channels))

    @cached_property
    def _positions(self) -> NDArray[np.int64]:
        positions = np.full(len(self._free), -1)
        positions[np.searchsorted(self._free, self.channels)] = np.arange(len(self.channels))
        return positions

    def gather(self, place: TensorDim, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum values over the indices that each channel occupies in one tensor dimension.

        Args:
            place: Tensor name and dimension.
            values: One value per index of that dimension.

        Returns:
            One value for each of `channels`, 0 if a channel is not in that dimension.
        """
        if place not in self._incidence:
            return np.zeros(len(self.channels))
        sums = self._incidence[place].sums(values)
        return sums[np.searchsorted(self._free, self.channels)]

    def removed_flags(self, channels: Iterable[int]) -> NDArray[np.bool_]:
        """A flag for every label: whether it is removed when ``channels`` are removed."""
        return self._classes.removed(list(channels))

    def shapes_without(self, channels: Iterable[int]) -> ShapeOf:
        """The shapes of nodes after removing channels, for one sample, without slicing."""
        gone = self.removed_flags(channels)
        counts: dict[int, int] = {}

        def extent(axis: Axis) -> int:
            if isinstance(axis, int):
                return axis // BATCH if axis % BATCH == 0 else axis
            if id(axis) not in counts:
                counts[id(axis)] = len(axis) - int(np.count_nonzero(gone[axis]))
            return counts[id(axis)]

        def shape(node: Node) -> Shape:
            return tuple(math.prod(map(extent, dim)) for dim in self.dims(node))

        return shape

    def costs_without(self, channels: Iterable[int]) -> tuple[int, int]:
        """MACs and parameters after removing channels, computed without slicing."""
        shape = self.shapes_without(channels)
        macs = sum(count_macs(node, shape) for node in calls(self._graph))
        parameters = sum(math.prod(shape(node)) for node in parameter_nodes(self._graph))
        return macs, parameters

    @cached_property
    def _group_of(self) -> dict[int, ChannelGroup]:
        return {channel: group for group in self.groups for channel in group.channels}

    def _track(self, module: GraphModule) -> None:
        tied: dict[int, str] = {}
        tensors = stored_tensors(module)
        for node in module.graph.nodes:
            if node.op == "get_attr" and str(node.target) in tensors:
                name = str(node.target)
                name = tied.setdefault(id(tensors[name]), name)
                if name not in self._tensors:
                    self._tensors[name] = tuple(
                        tracked(self.couplings.new_labels(size)) if size > 1 else fixed(size)
                        for size in tensors[name].shape)
                self._tensors[str(node.target)] = self._tensors[name]
                self._dims[node] = self._tensors[name]
            elif node.op in ("placeholder", "get_attr"):
                self._dims[node] = _untracked(node)
            elif node.op == "call_function":
                self._dims[node] = propagate(self, node)
            elif node.op == "output":
                self._pin_outputs(node)

    def _pin_outputs(self, node: Node) -> None:
        for source in pytree.tree_leaves(node.args):
            if isinstance(source, Node):
                for dim in range(len(self.dims(source))):
                    self.pin(source, dim, "it is an output")

    def _flatten_all(self) -> None:
        for node in list(self._dims):
            for place, dim in enumerate(self.dims(node)):
                if len(dim) > 1 and not has_batch(dim):
                    self.flat(node, place)

    def _ignore(self, patterns: tuple[str, ...]) -> None:
        """Pin the outputs of tensors: all dimensions, except a layer weight's input dimensions."""
        inputs = find_input_dims(self._graph)
        for name, pattern in match_tensors(self._tensors, patterns).items():
            for place, dim in enumerate(self._tensors[name]):
                if place not in inputs.get(name, ()):
                    pin(self.couplings, dim, f"ignore={pattern!r}")

    def _keep_distributions(self, tensors: Mapping[str, Tensor]) -> None:
        for axes, reason in find_fixed_distributions(self._graph, tensors, self.dims):
            for axis in axes:
                self.couplings.pin(axis, reason)

    def _stored_labels(self) -> Iterable[tuple[TensorDim, LabelArray]]:
        for name in self._tensors:
            for dim, labels in enumerate(self.tensor(name)):
                if labels is not None:
                    yield (name, dim), labels

    def _atoms_of(self, labels: LabelArray) -> Incidence:
        """The atoms of each index that can be removed; ``labels`` must outlive this object."""
        if id(labels) not in self._known:
            self._known[id(labels)] = Incidence.of(self._atoms, self._classes.root[labels])
        return self._known[id(labels)]

    def _is_free(self) -> NDArray[np.bool_]:
        """Flags of the labels that can be chosen: atoms that are not pinned."""
        count = len(self._classes.root)
        free: NDArray[np.bool_] = self._classes.root == np.arange(count)
        free &= np.asarray(self._classes.atoms.diagonal()) > 0
        free[list(self._classes.reasons)] = False
        return free

    def _collect(self, tensors: Mapping[str, Tensor]) -> tuple[ChannelGroup, ...]:
        """Group channels by the stored and computed tensors they are in, and how often."""
        signature = np.zeros(len(self._free), dtype=np.uint64)
        mix = np.random.default_rng(0)
        for _, axis in self.axes():
            columns, counts = self._atoms_of(axis).counts()
            number = mix.integers(1, 2**63, dtype=np.uint64)
            signature[columns] += number * (counts.astype(np.uint64) ** 2 + np.uint64(7))
        alike: dict[tuple[int, Any], list[int]] = {}
        for column in self._trained_columns(tensors):
            key = (int(signature[column]), self._classes.families.get(int(self._free[column])))
            alike.setdefault(key, []).append(column)
        names: dict[str, int] = {}
        return tuple(self._group(columns, names) for columns in alike.values())

    def _trained_columns(self, tensors: Mapping[str, Tensor]) -> list[int]:
        """Columns in both a trained and a computed tensor; constants are not channels."""
        trained, computed = np.zeros((2, len(self._free)), dtype=bool)
        for (name, _), incidence in self._incidence.items():
            if _is_trained(tensors[name]):
                trained[incidence.columns] = True
        for node in calls(self._graph):
            for axis in _axes_in(self._dims.get(node)):
                computed[self._atoms_of(axis).columns] = True
        found: list[int] = np.flatnonzero(trained & computed).tolist()
        return found

    def _group(self, columns: list[int], names: dict[str, int]) -> ChannelGroup:
        first = columns[0]
        places = tuple(place for place, members in self._members.items() if first in members)
        channels = tuple(self._free[columns].tolist())
        products = frozenset(key for key, _ in self._classes.families.get(channels[0], ()))
        return ChannelGroup(self._name(places, first, names), places, channels, products)

    @cached_property
    def _members(self) -> dict[TensorDim, frozenset[int]]:
        return {place: frozenset(incidence.columns.tolist())
                for place, incidence in self._incidence.items()}

    def axes(self) -> list[tuple[str, LabelArray]]:
        """Every tracked axis, with the name of the first node that computes it."""
        found: dict[int, tuple[str, LabelArray]] = {}
        for node, dims in self._dims.items():
            for axis in _axes_in(dims):
                found.setdefault(id(axis), (node.name, axis))
        return list(found.values())

    def _name(self, places: tuple[TensorDim, ...], column: int, taken: dict[str, int]) -> str:
        produced = [place for place in places
                    if place[1] == 0 and len(self._tensors[place[0]]) > 1]
        place = (produced or places)[0]
        count = len(self._incidence[place].rows(column))
        name = place[0] if count == 1 else f"{place[0]} by {count}"
        taken[name] = taken.get(name, 0) + 1
        return name if taken[name] == 1 else f"{name} ({taken[name]})"

    def _reasons(self) -> dict[str, str]:
        kept = {}
        for name, dims in self._tensors.items():
            labels = _single_axis(dims[0]) if len(dims) > 1 else None
            if labels is None:
                continue
            reasons = (self._classes.reasons.get(int(root)) for root in self._classes.root[labels])
            first = next((reason for reason in reasons if reason is not None), None)
            if first is not None:
                kept[name] = first
        return kept


def _count_noun(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _axes_in(labels: Labels) -> list[LabelArray]:
    """Every tracked axis in a node's results."""
    parts = labels if isinstance(labels, list) else [labels or ()]
    return [axis for part in parts for dim in part for axis in axes_of(dim)]


def _is_trained(tensor: Tensor) -> bool:
    """Whether a tensor counts as trained: a parameter, but not a frozen row of constants."""
    return (isinstance(tensor, nn.Parameter) and tensor.is_floating_point()
            and (tensor.requires_grad or not is_row(tensor.shape)))


def _single_axis(dim: Dim) -> LabelArray | None:
    return dim[0] if len(dim) == 1 and not isinstance(dim[0], int) else None


def _untracked(node: Node) -> Labels:
    tensor = tensor_of(node)
    return None if tensor is None else tuple(fixed(size) for size in shape_of(node, BATCH))


def find_groups(program: Program, ignore: tuple[str, ...] = ()) -> ChannelGroups:
    """Find the channel groups of a program; see `ChannelGroups`.

    Args:
        program: In floating point.
        ignore: Names or patterns of layers whose output channels are not pruned.

    Raises:
        UsageError: A pattern in ``ignore`` matches nothing.
    """
    return ChannelGroups(program.graph_module, ignore)
