"""Element-wise operators as steps of an integer network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from edgewright.exporters.integers._values import Grid, Lowering, NetworkBuilder, Stored, refuse
from edgewright.graph import argument, is_pointwise, ops
from edgewright.integers import Lookup, Product, Scaling, Sum, choose_scaling


def find_source(node: Node) -> Node | None:
    """The one dequantization that a node is an element-wise function of; None if there is none."""
    sources: set[Node] = set()
    pending = [node]
    while pending:
        one = pending.pop()
        if one.target is ops.DEQUANTIZE:
            sources.add(one)
        elif one.op == "call_function" and is_pointwise(one.target) and one.all_input_nodes:
            pending += one.all_input_nodes
        else:
            return None
    return sources.pop() if len(sources) == 1 else None


def look_up(builder: NetworkBuilder, value: Stored, node: Node, source: Node,
            grid: Grid) -> Stored:
    """An element-wise function of one tensor, as a table that the program itself computes."""
    return _store_table(builder, value, _evaluate(node, {source: _all_values(value)}), grid)


def bound_of_table(value: Stored, node: Node, source: Node) -> float:
    """The largest magnitude of an element-wise function of one tensor."""
    return float(_evaluate(node, {source: _all_values(value)}).abs().max())


def requantize(builder: NetworkBuilder, value: Stored, grid: Grid) -> Stored:
    """The same values on another grid."""
    if grid.is_like(value.tensor) and grid.low <= np.iinfo(grid.dtype).min and (
            grid.high >= np.iinfo(grid.dtype).max):
        return value
    return _store_table(builder, value, _all_values(value), grid)


def _all_values(value: Stored) -> Tensor:
    """What every integer of a stored tensor of 8 bits means, the smallest first."""
    limits = np.iinfo(value.tensor.dtype)
    integers = torch.arange(limits.min, limits.max + 1, dtype=torch.int32)
    return (integers - value.tensor.zero_point).float() * value.tensor.scale


def _store_table(builder: NetworkBuilder, value: Stored, real: Tensor, grid: Grid) -> Stored:
    steps = torch.round(real.double() * (1.0 / grid.scale) if grid.dtype == "int32"
                        else real * (1.0 / grid.scale)) + grid.zero_point
    table = torch.clamp(steps, grid.low, grid.high).numpy().astype(grid.dtype)
    result = builder.tensor(grid, value.shape, value.order)
    builder.add(Lookup(input=value.tensor.name, output=result.tensor.name,
                       table=builder.constant(table)))
    return result


def _evaluate(node: Node, known: dict[Node, Tensor]) -> Tensor:
    """Compute a node from the values of others."""
    if node not in known:
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs),
                                        lambda one: _evaluate(one, known))
        target: Any = node.target
        known[node] = target(*args, **kwargs)
    return known[node]


def combine(lowering: Lowering, node: Node, grid: Grid) -> Stored:
    """The sum, difference or product of two quantized tensors."""
    first, second = (lowering.operand(one, node) for one in node.args[:2])
    if first.tensor.size < second.tensor.size:
        if ops.names([node.target]) == {"sub"}:
            raise refuse(node, "the first operand is smaller than the second")
        first, second = second, first
    second = _align(lowering.builder, first, second, node)
    result = lowering.builder.tensor(grid, first.shape, first.order)
    names = (first.tensor.name, second.tensor.name)
    spans = [one.tensor.span for one in (first, second)]
    common = {"inputs": names, "output": result.tensor.name, "low": grid.low, "high": grid.high}
    try:
        if node.target in ops.MULTIPLICATIONS:
            scaling = choose_scaling(first.tensor.scale * second.tensor.scale / grid.scale,
                                     spans[0] * spans[1])
            lowering.builder.add(Product(**common, factor=scaling.factor, shift=scaling.shift))
            return result
        factors, shift = _common_shift(
            (first.tensor.scale / grid.scale, _weight_of(node) * second.tensor.scale / grid.scale),
            sum(spans))
        lowering.builder.add(Sum(**common, factors=factors, shift=shift))
    except ValueError as error:
        raise refuse(node, f"its result has a much finer range than its operands: {error}"
                     ) from error
    return result


def bound_of_pair(lowering: Lowering, node: Node) -> float:
    """The largest magnitude of a sum or product."""
    bounds = [one.tensor.span * one.tensor.scale
              for one in (lowering.operand(arg, node) for arg in node.args[:2])]
    if node.target in ops.MULTIPLICATIONS:
        return bounds[0] * bounds[1]
    return bounds[0] + abs(_weight_of(node)) * bounds[1]


def _common_shift(values: tuple[float, float], bound: int) -> tuple[tuple[int, int], int]:
    """Two real numbers as factors over one power of two."""
    scalings = [choose_scaling(value, bound) for value in values]
    shift = min(one.shift for one in scalings if one != Scaling(0, 1))
    factors = tuple(round(value * 2.0**shift) for value in values)
    return (factors[0], factors[1]), shift


def _weight_of(node: Node) -> float:
    """What the second operand is multiplied by."""
    sign = -1.0 if ops.names([node.target]) == {"sub"} else 1.0
    return sign * float(argument(node, "alpha", 1))


def _align(builder: NetworkBuilder, first: Stored, second: Stored, node: Node) -> Stored:
    """The second operand, stored so that its elements repeat along the first one's."""
    shape = (1,) * (len(first.shape) - len(second.shape)) + second.shape
    lead = len(first.shape) - len(second.shape)
    widened = Stored(second.tensor, shape,
                     (*range(lead), *(lead + dim for dim in second.order)))
    aligned = builder.arrange(widened, first.order)
    sizes = [(first.shape[dim], shape[dim]) for dim in first.order]
    while sizes and sizes[0][1] == 1:
        sizes = sizes[1:]
    if any(one != other for one, other in sizes):
        raise refuse(node, f"shapes {first.shape} and {second.shape} repeat in a way that has no "
                           "kernel")
    return aligned
