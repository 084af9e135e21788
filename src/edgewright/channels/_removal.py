"""The effect of removing a set of channels on the nodes of a graph."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._guards import detect_fake_mode
from torch._subclasses import FakeTensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgewright.channels._axes import BATCH, Dim, Dims, axes_of, has_batch
from edgewright.channels._channels import ChannelGroups


@final
class RemovedChannels:
    """A set of removed channels; the `Removal` that the rules of operators use.

    Attributes:
        gone: A flag for every label: whether it is removed.
    """

    def __init__(self, groups: ChannelGroups, channels: Collection[int]) -> None:
        self._groups = groups
        self.gone = groups.removed_flags(channels)

    def removes(self, value: Any, dim: int) -> bool:
        """Whether any index of a dimension is removed."""
        return any(not isinstance(axis, int) and bool(self.gone[axis].any())
                   for axis in self._groups.dims(value)[dim])

    def kept_size(self, value: Any, dim: int) -> int:
        """Number of indices of a dimension that are kept."""
        return self._left(self._groups.dims(value)[dim])

    def kept(self, value: Any, dim: int) -> NDArray[np.bool_]:
        """A flag for every index of a dimension: whether it is kept."""
        return self.flags(self._groups.dims(value)[dim], batch=1)

    def flags(self, dim: Dim, batch: int) -> NDArray[np.bool_]:
        """A flag for every index of a product of axes: whether it is kept."""
        flags = np.ones(1, dtype=bool)
        for axis in dim:
            if isinstance(axis, int):
                part = np.ones(axis // BATCH * batch if axis % BATCH == 0 else axis, dtype=bool)
            else:
                part = ~self.gone[axis]
            flags = np.logical_and.outer(flags, part).reshape(-1)
        return flags

    def shapes(self, node: Node, batch: Any) -> list[tuple[Any, ...] | None] | None:
        """The new shape of each result of a node (None: unchanged); None if all are unchanged."""
        results = self._groups.results(node)
        parts = results if isinstance(results, list) else [results or ()]
        shapes = [self._shape(dims, batch) for dims in parts]
        return shapes if any(shape is not None for shape in shapes) else None

    def _shape(self, dims: Dims, batch: Any) -> tuple[Any, ...] | None:
        if not any(self.gone[axis].any() for dim in dims for axis in axes_of(dim)):
            return None
        return tuple(self._left(dim) // BATCH * batch if has_batch(dim) else self._left(dim)
                     for dim in dims)

    def recorded_size(self, node: Node) -> int:
        """The new size of the dimension that a rule recorded for ``node``."""
        return self._left(self._groups.recorded_dim(node))

    def _left(self, dim: Dim) -> int:
        return math.prod(axis if isinstance(axis, int) else int((~self.gone[axis]).sum())
                         for axis in dim)


def resize_values(twins: Mapping[Node, Node], removal: RemovedChannels) -> None:
    """Update the fake tensors in a sliced graph's nodes to the new shapes, in place."""
    mode = detect_fake_mode([node.meta.get("val") for node in twins])
    batch = next((size for node in twins if node.op == "placeholder"
                  for value in pytree.tree_leaves(node.meta.get("val"))
                  if isinstance(value, Tensor) for size in value.shape[:1]), 1)
    made: dict[Any, Tensor] = {}

    def empty(leaf: Tensor, shape: tuple[Any, ...]) -> Tensor:
        key = (tuple(map(str, shape)), leaf.dtype)
        if key not in made:
            value = torch.empty(shape, dtype=leaf.dtype, device="meta")
            made[key] = value if mode is None else FakeTensor(mode, value, leaf.device)
        return made[key]

    for node, twin in twins.items():
        shapes = removal.shapes(node, batch)
        if shapes is not None:
            leaves, spec = pytree.tree_flatten(node.meta["val"])
            values = [leaf if shape is None else empty(leaf, shape)
                      for leaf, shape in zip(leaves, shapes, strict=True)]
            twin.meta["val"] = pytree.tree_unflatten(values, spec)
