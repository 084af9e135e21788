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
        inputs: Names of the sizes of inputs, by their symbols.
    """
    return tuple(_describe(size, inputs or {}) for size in tensor.shape)


def name_sizes(module: GraphModule) -> dict[Any, str]:
    """Names of the varying sizes of a graph's inputs, by symbol: ``x_2`` for dimension 2 of x."""
    names: dict[Any, str] = {}
    for node in module.graph.find_nodes(op="placeholder"):
        for leaf in pytree.tree_leaves(node.meta.get("val")):
            for dim, size in enumerate(getattr(leaf, "shape", ())):
                if isinstance(size, torch.SymInt) and size.node.expr.is_symbol \
                        and not _is_batch(size.node.expr, size.node.shape_env):
                    names.setdefault(size.node.expr, f"{node.name}_{dim}")
    return names


def _describe(size: int | torch.SymInt, names: dict[Any, str]) -> Size:
    if isinstance(size, int):
        return size
    expression, environment = size.node.expr, size.node.shape_env
    if any(_is_batch(symbol, environment) for symbol in expression.free_symbols):
        return None
    bounds = bound_sympy(expression, _RANGES[environment])
    return SizeRange(low=int(bounds.lower), high=int(bounds.upper), name=names.get(expression, ""))


def _is_batch(symbol: Any, environment: Any) -> bool:
    """Whether a symbol is a batch size, which has no limits."""
    return environment is None or symbol not in _RANGES.get(environment, {})
