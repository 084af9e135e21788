"""Interfaces used by the rules of operators: the tracker of labels, and a removal of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

from edgewright.channels._axes import Dim, Dims
from edgewright.channels._couplings import Couplings, LabelArray

Labels: TypeAlias = Dims | list[Dims] | None


class LabelTracker(Protocol):
    """What a rule may read and record while the graph is analyzed; see `ChannelGroups`."""

    couplings: Couplings

    def dims(self, value: Any) -> Dims:
        """Dimensions of the tensor a node computes; empty if it does not compute a tensor."""

    def results(self, value: Any) -> Labels:
        """Dimensions of a node's result; a list of them if it has several results."""

    def flat(self, value: Any, dim: int) -> LabelArray | None:
        """One label per index along a dimension, None if it is not tracked."""

    def pin(self, value: Any, dim: int, reason: str) -> None:
        """Record that a dimension cannot be pruned."""

    def contract(self, node: Node, source: Any, dim: int) -> None:
        """Record that ``node`` sums products over that dimension of its input ``source``."""

    def record_whole_read(self, node: Node) -> None:
        """Record that ``node`` reads a whole dimension: removed channels are excluded from it."""

    def record_dim(self, node: Node, dim: Dim) -> None:
        """Record a dimension (such as groups) whose size is an argument of ``node``."""


class Removal(Protocol):
    """The effect of removing channels on nodes; see `remove_channels`."""

    def removes(self, value: Any, dim: int) -> bool:
        """Whether any index of a dimension is removed."""

    def kept_size(self, value: Any, dim: int) -> int:
        """Number of indices of a dimension that are kept."""

    def kept(self, value: Any, dim: int) -> NDArray[np.bool_]:
        """A flag for every index of a dimension: whether it is kept."""

    def recorded_size(self, node: Node) -> int:
        """The new size of the dimension that a rule recorded for ``node``."""


OperatorRule: TypeAlias = Callable[[LabelTracker, Node], Labels]
Resize: TypeAlias = Callable[[Node, Node, Removal], None]


@dataclass(frozen=True)
class Operator:
    """How labels propagate through an operator, and how size arguments of a call are rewritten.

    Attributes:
        rule: Dimensions of the result of a call.
        resize: Takes the call, its twin in the sliced graph and the removal, and rewrites the twin.
    """

    rule: OperatorRule
    resize: Resize | None = None
