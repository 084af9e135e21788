"""Dimensions of inputs, other than the batch, whose size may vary: parsing, export and checks."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from edgewright.capture._input_checks import InputSpec, read_input_specs
from edgewright.core import SizeRange
from edgewright.errors import ModelError, UsageError
from edgewright.graph import TOLERANCE, compare_outputs

DynamicSizes: TypeAlias = Mapping[str, Mapping[int, tuple[int, int]]]
Ranges: TypeAlias = dict[str, SizeRange]  # by the name of a dimension, "x_2"

_EQUAL: Final = re.compile(r"^\s*(\w+) = (\w+)\s*$", re.M)
_SMALLEST: Final = 2  # an export takes sizes 0 and 1 for constants


def read_dynamic_sizes(dynamic: DynamicSizes | None, names: Sequence[str],
                       leaves: Sequence[Tensor]) -> list[dict[int, SizeRange]]:
    """The ranges of every input tensor by dimension, checked.

    Args:
        dynamic: As in `Program.capture`.
        names: Names of the input tensors.
        leaves: Their examples.

    Raises:
        UsageError: An unknown input, or a dimension or range that is impossible.
    """
    given = dynamic or {}
    if not isinstance(given, Mapping) or not all(isinstance(v, Mapping) for v in given.values()):
        raise UsageError(f"dynamic={dynamic!r} gives no dimensions by input; expected, for "
                         f"example, {{{names[0]!r}: {{2: (16, 400)}}}}")
    if unknown := [name for name in given if name not in names]:
        raise UsageError(f"dynamic names the input {unknown[0]!r}; the model's inputs are "
                         f"{', '.join(names)}")
    return [{dim % leaf.ndim if isinstance(dim, int) else dim: _read_range(name, dim, limits, leaf)
             for dim, limits in given.get(name, {}).items()}
            for name, leaf in zip(names, leaves, strict=True)]


def _read_range(name: str, dim: Any, limits: Any, leaf: Tensor) -> SizeRange:
    where = f"dynamic[{name!r}][{dim!r}]"
    if not isinstance(dim, int) or not -leaf.ndim <= dim < leaf.ndim:
        raise UsageError(f"{where} is no dimension of the input, which has {leaf.ndim} dimensions: "
                         f"give 1 to {leaf.ndim - 1}")
    if dim % leaf.ndim == 0:
        raise UsageError(f"{where} is the batch, which may have any size already; leave it out")
    if (not isinstance(limits, tuple | list) or len(limits) != 2
            or not all(type(limit) is int for limit in limits) or not 1 <= limits[0] < limits[1]):
        raise UsageError(f"{where} is {limits!r}; expected the smallest and the largest size, such "
                         "as (16, 400)")
    size = leaf.shape[dim]
    if not max(limits[0], _SMALLEST) <= size <= limits[1]:
        raise UsageError(f"{where} is {tuple(limits)}, but the example input has the size {size} "
                         f"there; give an example of {max(limits[0], _SMALLEST)} to {limits[1]}")
    return SizeRange(low=limits[0], high=limits[1], name=f"{name}_{dim % leaf.ndim}")


def recorded_sizes(module: nn.Module) -> list[dict[int, SizeRange]]:
    """The ranges of a captured graph's inputs; empty if it is no graph."""
    specs = read_input_specs(module) if isinstance(module, GraphModule) else None
    return [_ranges_of(spec) for spec in specs or ()]


def _ranges_of(spec: InputSpec) -> dict[int, SizeRange]:
    return {dim: size for dim, size in enumerate(spec.shape) if isinstance(size, SizeRange)}


def export_dims(ranges: Sequence[Mapping[int, SizeRange]]) -> list[dict[int, Any]]:
    """The dimensions for `torch.export`, shared by ranges of one name, with the batch first."""
    batch = Dim("batch", min=1)
    dims = {size.name: Dim(size.name, min=size.low, max=size.high)
            for sizes in ranges for size in sizes.values()}
    return [{0: batch} | {dim: dims[size.name] for dim, size in sizes.items()} for sizes in ranges]


def join_equal(ranges: Sequence[Mapping[int, SizeRange]],
               error: BaseException) -> list[dict[int, SizeRange]] | None:
    """The ranges with one name for dimensions that an export found to be equal; None if it did not.

    Raises:
        UsageError: The ranges of equal dimensions differ.
    """
    known = {size.name: size for sizes in ranges for size in sizes.values()}
    equal = {one: other for one, other in _EQUAL.findall(str(error))
             if one in known and other in known and one != other}
    if not equal:
        return None
    for one, other in equal.items():
        if (known[one].low, known[one].high) != (known[other].low, known[other].high):
            raise UsageError(f"the model needs {one} and {other} to be equal, but dynamic gives "
                             f"{known[one]} and {known[other]}; give both the same range")
    return [{dim: known[equal.get(size.name, size.name)] for dim, size in sizes.items()}
            for sizes in ranges]


def check_sizes(module: GraphModule, model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Check that a graph computes what the model does at the ends of every range.

    Raises:
        ModelError: The model fails there, or computes something else.
    """
    ranges = recorded_sizes(module)
    if not any(ranges):
        return
    for end in ("low", "high"):
        given = _resize(inputs, ranges, end)
        sizes = ", ".join(f"{name}={size}" for name, size in sorted(
            {size.name: getattr(size, end) for sizes in ranges for size in sizes.values()}.items()))
        with torch.no_grad():
            try:
                expected = model(*copy.deepcopy(given))
            except (RuntimeError, ValueError, TypeError, LookupError) as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise ModelError(f"{type(model).__name__} fails at the sizes {sizes}, which "
                                 f"dynamic allows: {reason}; narrow the range") from error
            error_found = compare_outputs(expected, module(*given))
        if error_found > TOLERANCE:
            raise ModelError(f"{type(model).__name__} computes something else than its graph at "
                             f"the sizes {sizes} (relative error {error_found:.2e}): its forward "
                             "pass depends on them in Python; narrow the range in dynamic")


def _resize(inputs: tuple[Any, ...], ranges: Sequence[Mapping[int, SizeRange]],
            end: str) -> tuple[Any, ...]:
    """The inputs at one end of their ranges: cut, or repeated."""
    leaves, spec = pytree.tree_flatten(inputs)
    resized = []
    for leaf, sizes in zip(leaves, ranges, strict=True):
        for dim, size in sizes.items():
            leaf = leaf.index_select(  # noqa: PLW2901
                dim, torch.arange(getattr(size, end)) % leaf.shape[dim])
        resized.append(leaf.clone())
    result: tuple[Any, ...] = pytree.tree_unflatten(resized, spec)
    return result
