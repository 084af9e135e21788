"""Targets of a batch or a split: tensors, alone or in dicts, tuples and lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


def select_rows(targets: Any, rows: Tensor | slice) -> Any:
    """The targets of these rows; a list holds one target per row, of any size.

    Example:
        >>> select_rows({"a": torch.arange(3)}, torch.tensor([2, 0]))
        {'a': tensor([2, 0])}
        >>> select_rows([torch.zeros(1), torch.ones(2)], slice(1, 2))
        [tensor([1., 1.])]
    """
    if isinstance(targets, list):
        return targets[rows] if isinstance(rows, slice) else [targets[row] for row in rows.tolist()]
    if isinstance(targets, Mapping):
        return {name: select_rows(part, rows) for name, part in targets.items()}
    if isinstance(targets, tuple):
        return tuple(select_rows(part, rows) for part in targets)
    return targets if targets is None else targets[rows]


def map_targets(function: Callable[[Tensor], Tensor], targets: Any) -> Any:
    """Apply a function to every tensor of the targets."""
    return pytree.tree_map_only(Tensor, function, targets)


def target_tensors(targets: Any) -> list[Tensor]:
    """The tensors of the targets, in order; other leaves become tensors, a text its bytes."""
    return [torch.as_tensor(list(leaf.encode()) if isinstance(leaf, str) else leaf)
            for leaf in pytree.tree_leaves(targets) if leaf is not None]


def target_lengths(targets: Any) -> list[tuple[int, str]]:
    """Number of samples and shape of every part of the targets."""
    if isinstance(targets, list):
        return [(len(targets), f"list of {len(targets)}")]
    if isinstance(targets, Mapping):
        return [found for part in targets.values() for found in target_lengths(part)]
    if isinstance(targets, tuple):
        return [found for part in targets for found in target_lengths(part)]
    if targets is None:
        return []
    if not isinstance(targets, Tensor):
        return [(0, type(targets).__name__)]
    return [(len(targets) if targets.ndim else 0, str(tuple(targets.shape)))]
