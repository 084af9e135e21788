"""Find the channels between layers that can be scaled without changing the network's function.

A value can be scaled per channel if the layers that compute it multiply their rows and biases by
the factors, the layers that read it multiply their columns by the inverse factors, and all
operators in between are positively homogeneous: ``f(s x) = s f(x)`` for ``s > 0``. Values that are
connected by such operators share their factors, so a residual stream is scaled as a whole or not
at all. If any other operator reads a value (a sigmoid, a norm, an output of the model), its
channels are not scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

from edgewright.channels import find_groups
from edgewright.graph import argument, count_reads, op_name, ops, stored_tensors
from edgewright.program import Program

aten = torch.ops.aten
IntArray = NDArray[np.int64]
Keys = tuple[IntArray, ...]  # per dimension: one key per index, -1 where it is not tracked

_NONE: Final = -1

# Homogeneous operators whose result has all of the input's channels, or some of them.
_KEEPING: Final = ops.names(
    ops.AVERAGES | ops.PLAIN_MAX_POOLS | ops.RESHAPES | ops.PERMUTATIONS | ops.COPIES
    | ops.DROPOUTS) | frozenset(
    "relu leaky_relu prelu abs neg sum amax amin upsample_nearest1d upsample_nearest2d "
    "upsample_bilinear2d detach feature_dropout unsqueeze expand flip roll pixel_shuffle "
    "channel_shuffle".split())
_PADDING: Final = ops.names(ops.PADS)
_TAKING: Final = ops.names(ops.SLICES | ops.SPLITS) | {"narrow"}


@final
@dataclass(frozen=True, eq=False)
class ScalableLayer:
    """A layer with an unshared weight, and the factors of its input and output channels.

    Attributes:
        weight: Name of the weight.
        bias: Name of the bias, or None.
        groups: Groups of a convolution, otherwise 1.
        transposed: Whether the weight's first dimension is that of the inputs.
        reads: Index of each input channel's factor, -1 for none.
        writes: Index of each output channel's factor, -1 for none.
    """

    weight: str
    bias: str | None
    groups: int
    transposed: bool
    reads: IntArray
    writes: IntArray


@final
@dataclass(frozen=True, eq=False)
class ScalableChannels:
    """The channels of a program that can be scaled.

    Attributes:
        layers: All layers with scalable channels.
        streams: For each factor the index of its stream, a set of values connected by homogeneous
            operators.
    """

    layers: tuple[ScalableLayer, ...]
    streams: IntArray


def find_scalable_channels(program: Program) -> ScalableChannels:
    """Find the channels that can be scaled; see the module docstring.

    Args:
        program: A program in floating point with folded batch norms; the channels of unfolded
            norms cannot be scaled.
    """
    flow = _Flow(program)
    for node in program.graph.nodes:
        flow.follow(node)
    return flow.result()


@dataclass(frozen=True)
class _Call:
    """A layer's call."""

    node: Node
    source: Node
    weight: str
    bias: str | None
    groups: int
    transposed: bool

    @property
    def dim(self) -> int:
        """The channel dimension of input and output."""
        return -1 if self.node.target is ops.LINEAR else 1


class _Flow:
    """Values by stream, and the channels in them that cannot be scaled."""

    def __init__(self, program: Program) -> None:
        self._groups = find_groups(program)
        self._tensors = stored_tensors(program.graph_module)
        self._reads = count_reads(program.graph_module)
        self._parents: dict[Node, Node] = {}
        self._keys: dict[Node, Keys] = {}
        self._names: dict[tuple[int, ...], int] = {}
        self._pinned: list[tuple[Node, IntArray]] = []
        self._calls: list[_Call] = []

    def follow(self, node: Node) -> None:
        """Connect a node's value with its inputs, or mark both as not scalable."""
        sources = [source for source in node.all_input_nodes if _is_value(source)]
        if node.op != "output" and not _is_value(node):
            return  # a size
        call = self._layer(node)
        if call is not None:
            self._add_layer(call)
        elif op_name(node) in _HOMOGENEOUS and _HOMOGENEOUS[op_name(node)](self, node, sources):
            for source in sources[:1] if op_name(node) in _KEEPING else sources:
                self._parents[self._root(source)] = self._root(node)
        else:
            for value in (node, *sources):
                self._pin(value)

    def result(self) -> ScalableChannels:
        """The factors that one layer can apply and another can invert."""
        pinned = {(self._root(node), key) for node, keys in self._pinned for key in keys.tolist()}
        written = {self._root(call.node): call for call in self._calls}
        numbers: dict[tuple[Node, int], int] = {}
        for call in self._calls:
            root = self._root(call.source)
            for key in self._channels(call.source, call.dim).tolist() if root in written else ():
                if key != _NONE and (root, key) not in pinned:
                    numbers.setdefault((root, key), len(numbers))

        def factors(value: Node, dim: int) -> IntArray:
            root = self._root(value)
            return np.array([numbers.get((root, key), _NONE)
                             for key in self._channels(value, dim).tolist()], dtype=np.int64)

        layers = tuple(ScalableLayer(call.weight, call.bias, call.groups, call.transposed,
                                     factors(call.source, call.dim), factors(call.node, call.dim))
                       for call in self._calls)
        roots = {root: number for number, root in enumerate(dict.fromkeys(r for r, _ in numbers))}
        streams = np.array([roots[root] for root, _ in numbers], dtype=np.int64)
        return ScalableChannels(layers, streams)

    def _layer(self, node: Node) -> _Call | None:
        """The call of a layer whose weight and bias have no other readers, or None."""
        if node.target not in ops.LAYERS:
            return None
        source, weight, bias = (argument(node, name) for name in ("input", "weight", "bias"))
        if not (isinstance(source, Node) and self._is_own(weight)
                and (bias is None or self._is_own(bias))):
            return None
        if node.target is not ops.LINEAR and source.meta["val"].ndim != weight.meta["val"].ndim:
            return None  # without a batch
        return _Call(node, source, str(weight.target), None if bias is None else str(bias.target),
                     ops.groups_of(node), ops.is_transposed(node))

    def _is_own(self, value: Any) -> bool:
        tensor = self._tensors.get(str(value.target)) if isinstance(value, Node) else None
        return tensor is not None and self._reads[id(tensor)] == 1

    def _add_layer(self, call: _Call) -> None:
        """Only the channel dimension is scaled; keys of other dimensions are pinned."""
        self._calls.append(call)
        for value in (call.source, call.node):
            channels = call.dim % value.meta["val"].ndim
            self._pinned += [(value, keys) for dim, keys in enumerate(self._keys_of(value))
                             if dim != channels]

    def _pin(self, value: Node) -> None:
        self._pinned += [(value, keys) for keys in self._keys_of(value)]

    def _channels(self, value: Node, dim: int) -> IntArray:
        return self._keys_of(value)[dim]

    def _root(self, node: Node) -> Node:
        while (parent := self._parents.get(node, node)) is not node:
            node = parent
        return node

    def _keys_of(self, value: Node) -> Keys:
        """The keys of each index of a value; equal keys are the same channel anywhere."""
        if value not in self._keys:
            shape = getattr(value.meta.get("val"), "shape", ())
            known = self._groups.labels_of(value) or (None,) * len(shape)
            self._keys[value] = tuple(
                self._named(labels) if labels is not None
                else np.full(size if isinstance(size, int) else 1, _NONE)
                for labels, size in zip(known, shape, strict=True))
        return self._keys[value]

    def _named(self, labels: IntArray) -> IntArray:
        members: list[list[int]] = [[] for _ in labels]
        found = self._groups.incidence(labels)
        for index, channel in zip(found.indices.tolist(), found.columns.tolist(), strict=True):
            members[index].append(channel)
        return np.array([self._names.setdefault(tuple(channels), len(self._names))
                         if channels else _NONE for channels in members], dtype=np.int64)

    def _keeps(self, node: Node, sources: list[Node]) -> bool:
        """Whether every channel of the source is also a channel of the result."""
        return _tracked(self._keys_of(sources[0])) <= _tracked(self._keys_of(node))

    def _pads(self, node: Node, sources: list[Node]) -> bool:
        return argument(node, "value") in (None, 0) and self._keeps(node, sources)

    def _scales(self, node: Node, sources: list[Node]) -> bool:
        """Whether a tensor is multiplied or divided by a number."""
        return (sources == [node.args[0]] and argument(node, "other") is not node.args[0]
                and argument(node, "rounding_mode") is None and self._keeps(node, sources))

    def _combines(self, node: Node, sources: list[Node]) -> bool:
        return argument(node, "other") in sources and all(
            self._agrees(node, source) for source in sources)

    def _joins(self, node: Node, sources: list[Node]) -> bool:
        joined = _dimension(node) % len(self._keys_of(node))
        return all(self._agrees(node, source, joined) for source in sources)

    def _takes(self, node: Node, sources: list[Node]) -> bool:
        """Whether the result has, in every dimension, channels of the source and no others."""
        if isinstance(node.meta["val"], list | tuple):
            return True  # checked at getitem
        taking = sources[0] if op_name(node) == "getitem" else node
        source = taking.args[0]
        if op_name(taking) not in _TAKING or not isinstance(source, Node):
            return False
        wanted, have = list(self._keys_of(source)), self._keys_of(node)
        if len(have) < len(wanted) and (wanted.pop(_dimension(taking)) != _NONE).any():
            return False
        return all(set(mine.tolist()) <= set(theirs.tolist())
                   for mine, theirs in zip(have, wanted, strict=True))

    def _agrees(self, node: Node, source: Node, joined: int | None = None) -> bool:
        """Whether an operand has the result's channels at the same indices (joined: a subset)."""
        result, mine = self._keys_of(node), self._keys_of(source)
        for dim, theirs in enumerate(result):
            own = dim - len(result) + len(mine)
            keys = mine[own] if own >= 0 else np.full(1, _NONE)
            tracked = _tracked([keys]) | (set() if dim == joined else _tracked([theirs]))
            same = tracked <= _tracked([theirs]) if dim == joined else np.array_equal(keys, theirs)
            if tracked and not same:
                return False
        return True


_Check = Callable[[_Flow, Node, list[Node]], bool]
_HOMOGENEOUS: Final[dict[str, _Check]] = {
    **dict.fromkeys(_KEEPING, _Flow._keeps),
    **dict.fromkeys(_PADDING, _Flow._pads),
    **dict.fromkeys([*_TAKING, "getitem"], _Flow._takes),
    "mul": _Flow._scales, "div": _Flow._scales,
    "add": _Flow._combines, "sub": _Flow._combines,
    "maximum": _Flow._combines, "minimum": _Flow._combines,
    "cat": _Flow._joins,
}


def _dimension(node: Node) -> int:
    """The dimension of a selection or concatenation; the first by default."""
    value = argument(node, "dim", 0)
    return value if isinstance(value, int) else 0


def _is_value(node: Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor | list | tuple)


def _tracked(keys: Iterable[IntArray]) -> set[int]:
    return {key for array in keys for key in array.tolist()} - {_NONE}
