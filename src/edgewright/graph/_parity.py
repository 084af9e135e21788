"""Comparing the outputs of two implementations of the same function."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from edgewright.graph._shapes import tensor_of

TOLERANCE: Final = 1e-4  # in float32
_TOLERATED_ROUNDINGS: Final = 10  # accumulated rounding errors, in eps of the least precise dtype
_MINIMUM_NORM: Final = 1e-3  # outputs with a smaller norm are compared absolutely


def tolerance_of(module: GraphModule) -> float:
    """The largest relative error allowed between two floating-point evaluations of a graph.

    Example:
        >>> from edgewright.program import Program
        >>> tolerance_of(Program.capture(torch.nn.ReLU(), torch.zeros(1)).graph_module)
        0.0001
    """
    kinds = {tensor.dtype for node in module.graph.nodes
             if (tensor := tensor_of(node)) is not None and tensor.is_floating_point()}
    return max([TOLERANCE, *(_TOLERATED_ROUNDINGS * torch.finfo(kind).eps for kind in kinds)])


def compare_outputs(expected: Any, actual: Any) -> float:
    """The largest error of any output tensor; see `output_errors`.

    Args:
        expected: The reference outputs: tensors, nested in any way.
        actual: The outputs to compare with the reference, on any device.

    Returns:
        At least 0; infinite where the outputs differ in number or shape.

    Example:
        >>> import torch
        >>> round(compare_outputs(torch.tensor([3.0, 4.0]), [torch.tensor([3.0, 4.5])]), 6)
        0.1
    """
    return max(output_errors(expected, actual), default=0.0)


def output_errors(expected: Any, actual: Any) -> tuple[float, ...]:
    """The error of each output tensor.

    For floating-point tensors it is the relative error in the L2 norm over the finite elements;
    infinities and NaN must be at the same positions in both. For integer and boolean tensors it is
    the fraction of elements that differ.

    Returns:
        One error per output. It is infinite if the shapes differ, if infinities or NaN are at
        different positions, or if the reference has no finite element (nothing could be compared).
        A single infinity if the number of outputs differs.

    Example:
        >>> output_errors([torch.tensor([1.0, math.nan]), torch.tensor([1, 2])],
        ...               [torch.tensor([1.0, math.nan]), torch.tensor([1, 3])])
        (0.0, 0.5)
    """
    expected_tensors, actual_tensors = _tensors(expected), _tensors(actual)
    if len(expected_tensors) != len(actual_tensors):
        return (math.inf,)
    return tuple(map(_error, expected_tensors, actual_tensors))


def _error(expected: Tensor, actual: Tensor) -> float:
    if expected.shape != actual.shape:
        return math.inf
    expected, actual = expected.detach().cpu(), actual.detach().cpu()
    if not expected.numel():
        return 0.0
    if expected.is_complex() and actual.is_complex():
        expected, actual = torch.view_as_real(expected), torch.view_as_real(actual)
    if not expected.is_floating_point():
        return float((expected != actual).double().mean())
    expected, actual = expected.double(), actual.double()
    finite = expected.isfinite()
    if (not finite.any() or not torch.equal(finite, actual.isfinite())
            or not torch.equal(expected[~finite].nan_to_num(), actual[~finite].nan_to_num())):
        return math.inf
    reference_norm = max(float(expected[finite].norm()), _MINIMUM_NORM)
    return float((expected - actual)[finite].norm()) / reference_norm


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def draw_random_inputs(example: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    """Inputs shaped like the example: normal noise for floats, the example itself otherwise."""
    generator = torch.Generator().manual_seed(seed)

    def like(leaf: Tensor) -> Tensor:
        if leaf.is_floating_point():
            return torch.randn(leaf.shape, generator=generator).to(leaf.dtype)
        return leaf

    result: tuple[Any, ...] = pytree.tree_map(like, example)
    return result
