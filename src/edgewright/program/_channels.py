"""Channel groups: what has to be sliced together, read off the graph."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from edgewright.errors import UsageError
from edgewright.program._costs import Shape, bookkeeping, count_macs, stored_tensors
from edgewright.program._labels import LabelClasses, TensorLabels
from edgewright.program._nodes import calls
from edgewright.program._rules import Labels, propagate
from edgewright.program._shapes import shape_of, tensor_of

TensorDim = tuple[str, int]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can be chosen among each other: they go through the same tensors.

    Attributes:
        name: The first weight that produces them.
        slices: Tensor name and dimension of everything a channel of the group is sliced from.
        channels: One label per channel; a channel is kept or removed as a whole.
    """

    name: str
    slices: tuple[TensorDim, ...]
    channels: tuple[int, ...]


@final
class ChannelGroups:
    """What has to be sliced together in one program, and what has to stay and why.

    Attributes:
        groups: Every group that can be pruned.
        kept: Weight name to the reason why its output channels cannot be pruned.
        contractions: (node, argument, dimension) wherever channels are summed over.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
        >>> found = Program.capture(model, torch.zeros(1, 4)).groups()
        >>> [(group.name, len(group.channels)) for group in found.groups]
        [('0.weight', 8)]
        >>> found.kept
        {'1.weight': 'it is an output'}
    """

    def __init__(self, module: GraphModule, ignore: tuple[str, ...]) -> None:
        self._graph = module.graph
        self.classes = LabelClasses()
        self.contractions: list[tuple[Node, int, int]] = []
        self._labels: dict[Node, Labels] = {}
        self._tensors: dict[str, TensorLabels] = {}
        self._track(module)
        self._ignore(ignore)
        self._root = self.classes.all_roots()
        self._incident = self._incidence()
        self.groups = self._collect()
        self.kept = self._reasons()

    def of(self, value: Any) -> TensorLabels:
        """Labels of the tensor a node computes, a tuple with one entry a dimension."""
        labels = self._labels[value]
        return labels if labels is not None else ()  # type: ignore[return-value]

    def contract(self, node: Node, argument: int, dim: int) -> None:
        """Note that ``node`` sums over that dimension of that argument."""
        self.contractions.append((node, argument, dim))

    def tensor(self, name: str) -> TensorLabels:
        """Labels of a stored tensor's dimensions."""
        return self._tensors[name]

    def slices(self, channel: int) -> dict[TensorDim, NDArray[np.int64]]:
        """Indices a channel occupies in every stored tensor."""
        return self._incident.get(channel, {})

    def removed_flags(self, channels: Iterable[int]) -> NDArray[np.bool_]:
        """A flag for every label: whether it goes when ``channels`` are removed."""
        flags = np.zeros(len(self._root), dtype=bool)
        flags[list(channels)] = True
        result: NDArray[np.bool_] = flags[self._root]
        return result

    def costs_without(self, channels: Iterable[int]) -> tuple[int, int]:
        """Multiply-accumulates and parameters that would be left, without slicing anything."""
        gone = self.removed_flags(channels)

        def shape(node: Node) -> Shape:
            return tuple(size if labels is None else int((~gone[labels]).sum())
                         for size, labels in zip(shape_of(node), self.of(node), strict=True))

        macs = sum(count_macs(node, shape) for node in calls(self._graph))
        aside = bookkeeping(self._graph)
        nodes = {str(node.target): node for node in self._graph.nodes
                 if node.op == "get_attr" and tensor_of(node) is not None}
        parameters = sum(math.prod(shape(node)) for name, node in nodes.items()
                         if name not in aside)
        return macs, parameters

    def _track(self, module: GraphModule) -> None:
        tied: dict[int, str] = {}
        tensors = stored_tensors(module)
        for node in module.graph.nodes:
            if node.op == "get_attr" and str(node.target) in tensors:
                name = str(node.target)
                name = tied.setdefault(id(tensors[name]), name)
                if name not in self._tensors:
                    self._tensors[name] = tuple(self.classes.fresh(size)
                                                for size in tensors[name].shape)
                self._tensors[str(node.target)] = self._tensors[name]
                self._labels[node] = self._tensors[name]
            elif node.op in ("placeholder", "get_attr"):
                tensor = tensor_of(node)
                self._labels[node] = (None,) * tensor.ndim if tensor is not None else None
            elif node.op == "call_function":
                self._labels[node] = propagate(self, node)
            elif node.op == "output":
                self._pin_outputs(node)

    def _pin_outputs(self, node: Node) -> None:
        for source in pytree.tree_leaves(node.args):
            if isinstance(source, Node) and tensor_of(source) is not None:
                for labels in self.of(source):
                    self.classes.pin(labels, "it is an output")

    def _ignore(self, patterns: tuple[str, ...]) -> None:
        for pattern in patterns:
            names = [name for name in self._tensors if name.startswith(f"{pattern}.")
                     or fnmatch.fnmatchcase(name, pattern)
                     or fnmatch.fnmatchcase(name.rpartition(".")[0], pattern)]
            if not names:
                known = sorted({name.rpartition(".")[0] for name in self._tensors})
                raise UsageError(f"ignore={pattern!r} matches no layer; there are: "
                                 f"{', '.join(known)}")
            for name in names:
                if self._tensors[name]:
                    self.classes.pin(self._tensors[name][0], f"ignore={pattern!r}")

    def _incidence(self) -> dict[int, dict[TensorDim, NDArray[np.int64]]]:
        found: dict[int, dict[TensorDim, NDArray[np.int64]]] = {}
        for name, dims in self._tensors.items():
            for dim, labels in enumerate(dims):
                if labels is None or not len(labels):
                    continue
                roots = self._root[labels]
                order = np.argsort(roots, kind="stable")
                values, starts = np.unique(roots[order], return_index=True)
                for root, indices in zip(values, np.split(order, starts[1:]), strict=True):
                    found.setdefault(int(root), {})[name, dim] = indices
        return found

    def _collect(self) -> tuple[ChannelGroup, ...]:
        by_slices: dict[tuple[TensorDim, ...], list[int]] = {}
        for root, slices in self._incident.items():
            if self.classes.reason(root) is None:
                by_slices.setdefault(tuple(slices), []).append(root)
        groups = []
        for through, roots in by_slices.items():
            produced = [name for name, dim in through if dim == 0 and len(self._tensors[name]) > 1]
            name = produced[0] if produced else through[0][0]
            groups.append(ChannelGroup(name, through, tuple(sorted(roots))))
        return tuple(groups)

    def _reasons(self) -> dict[str, str]:
        kept = {}
        for name, dims in self._tensors.items():
            if len(dims) < 2 or dims[0] is None:
                continue
            reasons = [self.classes.reason(int(root)) for root in self._root[dims[0]]]
            first = next((reason for reason in reasons if reason is not None), None)
            if first is not None:
                kept[name] = first
        return kept


def find_groups(module: GraphModule, ignore: tuple[str, ...] = ()) -> ChannelGroups:
    """Find what has to be sliced together; see `ChannelGroups`.

    Args:
        module: A program's graph, in floating point.
        ignore: Names or patterns of layers whose output channels must stay.

    Raises:
        UsageError: An ``ignore`` that matches nothing.
    """
    return ChannelGroups(module, ignore)

