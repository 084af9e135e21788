"""Split what a module returns into features and exits."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.errors import ModelError


def split_exits(result: Any, exits: int, features: int = 0) -> tuple[Any, ...]:
    """The outputs of every exit, preceded by the features if there are any.

    Only a captured program knows how many early exits it has: several outputs of any other model
    are one output per exit together, whatever their sizes.

    Args:
        result: What the module returns.
        exits: Number of early exits.
        features: Number of leading tensors that are features.

    Returns:
        ``features`` tensors, then what each early exit and the final one return.

    Raises:
        ModelError: There are more or fewer outputs than exits and features.

    Example:
        >>> import torch
        >>> heads = (torch.zeros(2, 3), torch.zeros(2, 3))
        >>> len(split_exits(heads, exits=0)), len(split_exits(heads, exits=1))
        (1, 2)
    """
    if not exits and not features:
        return (result,)
    expected = features + exits + 1
    if not isinstance(result, tuple | list) or len(result) != expected:
        found = len(result) if isinstance(result, tuple | list) else type(result).__name__
        before = f"{features} features, " if features else ""
        raise ModelError(f"the model returns {found} outputs; expected {expected}: {before}{exits} "
                         "early exits and the final output")
    return tuple(result)


def output_tensors(result: Any) -> list[Tensor]:
    """Every floating-point tensor in what a module returns."""
    return [leaf for leaf in pytree.tree_leaves(result)
            if isinstance(leaf, Tensor) and leaf.is_floating_point()]
