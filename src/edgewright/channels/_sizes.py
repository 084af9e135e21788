"""Shapes of a program's tensors as functions of the groups' widths."""

from __future__ import annotations

import math
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

from edgewright.channels._channels import ChannelGroups
from edgewright.channels._polynomial import Monomial, Polynomial
from edgewright.graph import shape_of


@final
class SymbolicShapes:
    """Shapes whose sizes are polynomials in the groups' widths.

    The groups that an index of a dimension belongs to are found by removing each group completely.
    An index that belongs to two groups (a head and a width within it) belongs to their product.

    Args:
        groups: The program's groups. All channels of a group occupy the same number of indices.

    Example:
        >>> from edgewright.channels import find_groups
        >>> import torch
        >>> from edgewright.program import Program
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> shapes = SymbolicShapes(find_groups(program))
        >>> [shapes(node)[1].terms for node in program.calls()]
        [{(): 0.0, (0,): 1.0}, {(): 3.0}]
    """

    def __init__(self, groups: ChannelGroups) -> None:
        self._groups = groups
        self._counts = [len(group.channels) for group in groups.groups]
        self._base = len(self._counts) + 1
        code = np.zeros(len(groups.removed_flags(())), dtype=np.int64)
        for index, group in enumerate(groups.groups):
            gone = groups.removed_flags(group.channels)
            code[gone] = code[gone] * self._base + index + 1
        self._code: NDArray[np.int64] = code
        self._known: dict[Node, tuple[Polynomial, ...]] = {}

    def __call__(self, node: Node) -> tuple[Polynomial, ...]:
        """The shape of the tensor a node computes, for one sample."""
        if node not in self._known:
            self._known[node] = tuple(
                Polynomial({(): float(size)}) if labels is None else self._size(labels)
                for size, labels in zip(shape_of(node), self._groups.labels_of(node), strict=True))
        return self._known[node]

    def _size(self, labels: NDArray[np.int64]) -> Polynomial:
        codes, counts = np.unique(self._code[labels], return_counts=True)
        terms: dict[Monomial, float] = {(): 0.0}
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            owners = self._owners(code)
            terms[owners] = terms.get(owners, 0.0) + count / math.prod(
                self._counts[owner] for owner in owners)
        return Polynomial(terms)

    def _owners(self, code: int) -> tuple[int, ...]:
        owners = []
        while code:
            code, digit = divmod(code, self._base)
            owners.append(digit - 1)
        return tuple(sorted(owners))
