"""Whether two evaluations of what should be one function agree."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from edgewright.graph._shapes import tensor_of

TOLERANCE: Final = 1e-4  # in float32
_ROUNDINGS: Final = 10   # of its least precise type, that a function in floating point may gather
_LEAST_SCALE: Final = 1e-3  # outputs of a smaller norm are compared absolutely


def tolerance_of(module: GraphModule) -> float:
    """The relative error that two evaluations of a graph in floating point may have.

    Example:
        >>> from edgewright.program import Program
        >>> tolerance_of(Program.capture(torch.nn.ReLU(), torch.zeros(1)).graph_module)
        0.0001
    """
    kinds = {tensor.dtype for node in module.graph.nodes
             if (tensor := tensor_of(node)) is not None and tensor.is_floating_point()}
    return max([TOLERANCE, *(_ROUNDINGS * torch.finfo(kind).eps for kind in kinds)])


def compare_outputs(want: Any, have: Any) -> float:
    """The largest error of any output tensor; see `output_errors`.

    Args:
        want: The reference: tensors, nested in any way.
        have: What is held against it, on any device.

    Returns:
        At least 0; infinite where the outputs differ in number or shape.

    Example:
        >>> import torch
        >>> round(compare_outputs(torch.tensor([3.0, 4.0]), [torch.tensor([3.0, 4.5])]), 6)
        0.1
    """
    return max(output_errors(want, have), default=0.0)


def output_errors(want: Any, have: Any) -> tuple[float, ...]:
    """The error of each output tensor.

    Of numbers in floating point it is relative, in the L2 norm, over those that are finite:
    infinities and NaN have to stand in the same places. Of integers and truth values it is the
    share that differs.

    Returns:
        Infinite for an output of another shape, with infinities or NaN in other places, or without
        a finite number, for it shows nothing; a single infinity where there are more or fewer.

    Example:
        >>> output_errors([torch.tensor([1.0, math.nan]), torch.tensor([1, 2])],
        ...               [torch.tensor([1.0, math.nan]), torch.tensor([1, 3])])
        (0.0, 0.5)
    """
    wanted, had = _tensors(want), _tensors(have)
    if len(wanted) != len(had):
        return (math.inf,)
    return tuple(map(_error, wanted, had))


def _error(want: Tensor, have: Tensor) -> float:
    if want.shape != have.shape:
        return math.inf
    want, have = want.detach().cpu(), have.detach().cpu()
    if not want.numel():
        return 0.0
    if want.is_complex() and have.is_complex():
        want, have = torch.view_as_real(want), torch.view_as_real(have)
    if not want.is_floating_point():
        return float((want != have).double().mean())
    want, have = want.double(), have.double()
    finite = want.isfinite()
    if (not finite.any() or not torch.equal(finite, have.isfinite())
            or not torch.equal(want[~finite].nan_to_num(), have[~finite].nan_to_num())):
        return math.inf
    return float((want - have)[finite].norm()) / max(float(want[finite].norm()), _LEAST_SCALE)


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
