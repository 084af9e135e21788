"""Sizes of a graph that vary from call to call: the batch size, and dimensions with a range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

from edgewright.core import Size, SizeRange

# The limits of the sizes that are not the batch, by symbol. The environment's own ranges shrink
# whenever torch compares two sizes.
_RANGES: Final[WeakKeyDictionary[ShapeEnv, dict[Any, ValueRanges[Any]]]] = WeakKeyDictionary()


def record_ranges(module: GraphModule, ranges: Mapping[Any, ValueRanges[Any]]) -> None:
    """Record between which limits an exported graph's sizes may vary.

    Args:
        module: The graph.
        ranges: The limits by symbol, as in `ExportedProgram.range_constraints`.
    """
    finite = {symbol: limits for symbol, limits in ranges.items() if limits.upper.is_Integer}
    for expression in [size for size in finite if not size.is_symbol]:  # a size with a step
        limits, (symbol,) = finite.pop(expression), expression.free_symbols
        step, offset = _step_of(expression), expression.subs(symbol, 0)
        finite[symbol] = ValueRanges((limits.lower - offset) / step, (limits.upper - offset) / step)
    for node in module.graph.find_nodes(op="placeholder"):
        for size in getattr(node.meta.get("val"), "shape", ()):
            if isinstance(size, torch.SymInt) and finite:
                _RANGES[size.node.shape_env] = finite


def concrete_size(size: int | torch.SymInt, batch: int = 1) -> int:
    """A size as an integer: for ``batch`` samples, other varying sizes as in the example inputs."""
    if isinstance(size, int):
        return size
    expression, environment = size.node.expr, size.node.shape_env
    return int(expression.subs({
        symbol: batch if _is_batch(symbol, environment)
        else environment.backed_var_to_val[symbol] for symbol in expression.free_symbols}))


def sizes_of(tensor: Tensor, inputs: dict[Any, str] | None = None) -> tuple[Size, ...]:
    """Sizes of a fake tensor: None if one depends on the batch size, a range if it varies.

    Args:
        tensor: The tensor.
        inputs: Names of the sizes of inputs, by their expressions.
    """
    return tuple(_describe(size, inputs or {}) for size in tensor.shape)


def name_sizes(module: GraphModule) -> dict[Any, str]:
    """Names of the varying sizes of inputs, by expression: ``x_2`` for dimension 2 of x."""
    names: dict[Any, str] = {}
    for node in module.graph.find_nodes(op="placeholder"):
        for leaf in pytree.tree_leaves(node.meta.get("val")):
            for dim, size in enumerate(getattr(leaf, "shape", ())):
                if isinstance(size, torch.SymInt) and not _varies_with_batch(size):
                    names.setdefault(size.node.expr, f"{node.name}_{dim}")
    return names


def _describe(size: int | torch.SymInt, names: dict[Any, str]) -> Size:
    if isinstance(size, int):
        return size
    if _varies_with_batch(size):
        return None
    expression = size.node.expr
    bounds = bound_sympy(expression, _RANGES[size.node.shape_env])
    low, high, step = int(bounds.lower), int(bounds.upper), _step_of(expression)
    return SizeRange(low=low, high=high, step=step, name=names.get(expression, ""))


def _step_of(expression: Any) -> int:
    """The difference between neighboring values of a linear expression of one size; else 1."""
    symbols = list(expression.free_symbols)
    slope = expression.coeff(symbols[0]) if len(symbols) == 1 else None
    if slope is None or not slope.is_Integer or (expression - slope * symbols[0]).free_symbols:
        return 1
    return abs(int(slope))


def _varies_with_batch(size: torch.SymInt) -> bool:
    environment = size.node.shape_env
    return any(_is_batch(symbol, environment) for symbol in size.node.expr.free_symbols)


def _is_batch(symbol: Any, environment: Any) -> bool:
    """Whether a symbol is a batch size, which has no limits."""
    return environment is None or symbol not in _RANGES.get(environment, {})
