"""Dimensions of inputs, other than the batch, whose size may vary: parsing, export and checks."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
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

Limits: TypeAlias = tuple[int, int] | tuple[int, int, int]
DynamicSizes: TypeAlias = Mapping[str, Mapping[int, Limits]]
Ranges: TypeAlias = dict[str, SizeRange]  # by the name of a dimension, "x_2"

_EQUAL: Final = re.compile(r"^\s*(\w+) = (\w+)\s*$", re.M)
_STEP: Final = re.compile(r"^\s*(\w+) = (\d+)\*_\1(?: \+ (\d+))?\s*$", re.M)
_SMALLEST: Final = 2  # an export takes sizes (or counts of steps) 0 and 1 for constants


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
    low, high, step = _read_limits(where, limits)
    size, smallest = leaf.shape[dim], low % step + step * max(low // step, _SMALLEST)
    if not smallest <= size <= high or (size - low) % step:
        steps = f" in steps of {step}" if step > 1 else ""
        raise UsageError(f"{where} is {tuple(limits)}, but the example input has the size {size} "
                         f"there; give an example of {smallest} to {high}{steps}")
    return SizeRange(low=low, high=high, step=step, name=f"{name}_{dim % leaf.ndim}")


def _read_limits(where: str, limits: Any) -> tuple[int, int, int]:
    """The smallest and the largest size, and the step between sizes, checked."""
    given = (*limits, 1)[:3] if isinstance(limits, tuple | list) and len(limits) > 1 else ()
    if not (given and len(limits) <= len(given) and all(type(limit) is int for limit in given)
            and 1 <= given[0] < given[1] and given[2] >= 1):
        raise UsageError(f"{where} is {limits!r}; expected the smallest and the largest size, such "
                         "as (16, 400), and the step between sizes if it is not 1: (16, 400, 8)")
    low, high, step = given
    if (high - low) % step:
        raise UsageError(f"{where} is {limits!r}, but steps of {step} from {low} do not reach "
                         f"{high}; give {high - (high - low) % step} as the largest size")
    return low, high, step


def recorded_sizes(module: nn.Module) -> list[dict[int, SizeRange]]:
    """The ranges of a captured graph's inputs; empty if it is no graph."""
    specs = read_input_specs(module) if isinstance(module, GraphModule) else None
    return [_ranges_of(spec) for spec in specs or ()]


def _ranges_of(spec: InputSpec) -> dict[int, SizeRange]:
    return {dim: size for dim, size in enumerate(spec.shape) if isinstance(size, SizeRange)}


def export_dims(ranges: Sequence[Mapping[int, SizeRange]]) -> list[dict[int, Any]]:
    """The dimensions for `torch.export`, shared by ranges of one name, with the batch first."""
    batch = Dim("batch", min=1)
    dims = {size.name: _export_dim(size) for sizes in ranges for size in sizes.values()}
    return [{0: batch} | {dim: dims[size.name] for dim, size in sizes.items()} for sizes in ranges]


def _export_dim(size: SizeRange) -> Any:
    """A dimension for `torch.export`; with a step, a linear function of a dimension without."""
    if size.step == 1:
        return Dim(size.name, min=size.low, max=size.high)
    count = Dim(size.name, min=size.low // size.step, max=size.high // size.step)
    dim, offset = size.step * count, size.low % size.step
    return dim + offset if offset else dim


def suggest_step(ranges: Sequence[Mapping[int, SizeRange]], error: BaseException) -> str | None:
    """Advice on a dimension of which an export found that only some sizes are possible."""
    known = {size.name: size for sizes in ranges for size in sizes.values()}
    for name, step, offset in _STEP.findall(str(error)):
        size = known.get(name)
        if size is not None:
            whole = size.step * int(step)
            start = size.low % size.step + size.step * int(offset or 0)
            low = size.low + (start - size.low) % whole
            limits = (low, size.high - (size.high - low) % whole, whole)
            return (f"its forward pass needs {name} in steps of {whole}, but dynamic allows "
                    f"{size}; give the step too: {limits}")
    return None


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
        if known[one].replace(name="") != known[other].replace(name=""):
            raise UsageError(f"the model needs {one} and {other} to be equal, but dynamic gives "
                             f"{known[one]} and {known[other]}; give both the same range")
    return [{dim: known[equal.get(size.name, size.name)] for dim, size in sizes.items()}
            for sizes in ranges]


def check_sizes(module: GraphModule, model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Check that a graph computes what the model does at the ends of every range.

    With steps, one step above the lower ends too: `torch.export` does not check all of them.

    Raises:
        ModelError: The model fails there, or computes something else.
    """
    ranges = recorded_sizes(module)
    if not any(ranges):
        return
    places: list[Callable[[SizeRange], int]] = [lambda size: size.low, lambda size: size.high]
    if any(size.step > 1 for sizes in ranges for size in sizes.values()):
        places.append(lambda size: size.low + size.step)
    for place in places:
        _check_size(module, model, _resize(inputs, ranges, place), ", ".join(
            f"{name}={size}" for name, size in sorted(
                {size.name: place(size) for sizes in ranges for size in sizes.values()}.items())))


def _check_size(module: GraphModule, model: nn.Module, given: tuple[Any, ...], sizes: str) -> None:
    with torch.no_grad():
        try:
            expected = model(*copy.deepcopy(given))
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"{type(model).__name__} fails at the sizes {sizes}, which dynamic "
                             f"allows: {reason}; narrow the range, or widen its step") from error
        error_found = compare_outputs(expected, module(*given))
    if error_found > TOLERANCE:
        raise ModelError(f"{type(model).__name__} computes something else than its graph at "
                         f"the sizes {sizes} (relative error {error_found:.2e}): its forward "
                         "pass depends on them in Python; narrow the range in dynamic")


def _resize(inputs: tuple[Any, ...], ranges: Sequence[Mapping[int, SizeRange]],
            place: Callable[[SizeRange], int]) -> tuple[Any, ...]:
    """The inputs at one place of their ranges: cut, or repeated."""
    leaves, spec = pytree.tree_flatten(inputs)
    resized = []
    for leaf, sizes in zip(leaves, ranges, strict=True):
        for dim, size in sizes.items():
            leaf = leaf.index_select(  # noqa: PLW2901
                dim, torch.arange(place(size)) % leaf.shape[dim])
        resized.append(leaf.clone())
    result: tuple[Any, ...] = pytree.tree_unflatten(resized, spec)
    return result
