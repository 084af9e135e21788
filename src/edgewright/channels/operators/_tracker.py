"""What the rules of operators speak with: the tracker of labels, and a removal of channels."""

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


class Tracker(Protocol):
    """What a rule may ask for and tell while the graph is read; see `ChannelGroups`."""

    couplings: Couplings

    def dims(self, value: Any) -> Dims:
        """Dimensions of the tensor a node computes; of none for anything else."""

    def results(self, value: Any) -> Labels:
        """What is known of a node's result, a list where it has several."""

    def flat(self, value: Any, dim: int) -> LabelArray | None:
        """One label an index along a dimension, None if it is not tracked."""

    def pin(self, value: Any, dim: int, reason: str) -> None:
        """Say that a dimension must stay."""

    def contract(self, node: Node, source: Any, dim: int) -> None:
        """Note that ``node`` sums products over that dimension of its operand ``source``."""

    def take_whole(self, node: Node) -> None:
        """Note that ``node`` reads a whole dimension: channels removed take no part in it."""

    def remember(self, node: Node, dim: Dim) -> None:
        """Keep a dimension (the groups of a convolution) whose size is written into ``node``."""


class Removal(Protocol):
    """Which channels go, seen from the graph; see `remove_channels`."""

    def removes(self, value: Any, dim: int) -> bool:
        """Whether anything of a dimension goes."""

    def kept_size(self, value: Any, dim: int) -> int:
        """Indices that are left of a dimension."""

    def kept(self, value: Any, dim: int) -> NDArray[np.bool_]:
        """A flag for every index of a dimension: whether it stays."""

    def remembered_size(self, node: Node) -> int:
        """What is left of the dimension a rule remembered for ``node``."""


Rule: TypeAlias = Callable[[Tracker, Node], Labels]
Resize: TypeAlias = Callable[[Node, Node, Removal], None]


@dataclass(frozen=True)
class Operator:
    """How one operator passes labels on, and how the sizes written into a call are rewritten.

    Attributes:
        rule: Dimensions of the result of a call.
        resize: Given the call, its twin in the sliced graph and the removal: rewrites the twin.
    """

    rule: Rule
    resize: Resize | None = None
