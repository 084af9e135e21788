"""Whether two evaluations of what should be one function agree."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

TOLERANCE: Final = 1e-4
_LEAST_SCALE: Final = 1e-3  # outputs of a smaller norm are compared absolutely


def compare_outputs(want: Any, have: Any) -> float:
    """The largest relative error (in the L2 norm) of any output tensor.

    Args:
        want: The reference: tensors, nested in any way.
        have: What is held against it, on any device.

    Returns:
        At least 0; infinite where the outputs differ in number or shape, or hold a NaN.

    Example:
        >>> import torch
        >>> round(compare_outputs(torch.tensor([3.0, 4.0]), [torch.tensor([3.0, 4.5])]), 6)
        0.1
    """
    wanted, had = _tensors(want), _tensors(have)
    if [tensor.shape for tensor in wanted] != [tensor.shape for tensor in had]:
        return math.inf
    return max(map(_error, wanted, had), default=0.0)


def _error(want: Tensor, have: Tensor) -> float:
    want, have = want.detach().cpu().float(), have.detach().cpu().float()
    error = float((want - have).norm()) / max(float(want.norm()), _LEAST_SCALE)
    return math.inf if math.isnan(error) else error


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def random_inputs(example: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    """Inputs like the example: normal noise for floats, the example itself for the rest."""
    generator = torch.Generator().manual_seed(seed)

    def like(leaf: Tensor) -> Tensor:
        if leaf.is_floating_point():
            return torch.randn(leaf.shape, generator=generator).to(leaf.dtype)
        return leaf

    result: tuple[Any, ...] = pytree.tree_map(like, example)
    return result
