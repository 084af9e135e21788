"""Operators that only move elements, as copies of an integer network, or as no step at all."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.fx import Node

from edgewright.exporters.integers._values import Grid, Lowering, Stored, grid_of, natural, refuse
from edgewright.graph import argument, op_name, ops, shape_of
from edgewright.integers import Copy, Part

aten = torch.ops.aten
MOVES: Final = (ops.RESHAPES | ops.UNFLATTENINGS | ops.PERMUTATIONS | ops.SLICES | ops.PADS
                | {ops.ITEM})


def move(lowering: Lowering, node: Node, grid: Grid) -> Stored:
    """Store what an operator moves, and move it."""
    if node.target is ops.ITEM:
        return _take_part(lowering, node, grid)
    value = lowering.store(node.args[0], grid)
    shape = shape_of(node)[1:]
    if node.target in ops.PERMUTATIONS:
        return _permute(node, value, shape)
    if node.target in ops.SLICES:
        return _slice(lowering, node, value, shape)
    if node.target in ops.PADS:
        return _pad(lowering, node, value, shape, grid)
    return _reshape(lowering, value, shape)


def concatenate(lowering: Lowering, node: Node, grid: Grid) -> Stored:
    """Join values along a dimension, all on one grid."""
    tensors: Any = node.args[0]
    shape = shape_of(node)[1:]
    dim = _dim(argument(node, "dim"), shape, node)
    values = [lowering.store(one, grid) for one in tensors]
    order = values[0].order
    values = [lowering.builder.arrange(value, order) for value in values]
    result = lowering.builder.tensor(grid, shape, order)
    strides, parts, start = result.strides(), [], 0
    for value in values:
        parts.append(_part(value, result, start=start * strides[dim]))
        start += value.shape[dim]
    lowering.builder.add(Copy(output=result.tensor.name, parts=tuple(parts)))
    return result


def _reshape(lowering: Lowering, value: Stored, shape: tuple[int, ...]) -> Stored:
    """The same elements with other sizes."""
    wide = [(dim, size) for dim, size in enumerate(value.shape) if size > 1]
    new_wide = [(dim, size) for dim, size in enumerate(shape) if size > 1]
    if [size for _, size in wide] == [size for _, size in new_wide]:  # only sizes of 1 differ
        places = {old: new for (old, _), (new, _) in zip(wide, new_wide, strict=True)}
        kept = [places[dim] for dim in value.order if dim in places]
        return Stored(value.tensor, shape,
                      (*(dim for dim, size in enumerate(shape) if size == 1), *kept))
    value = lowering.builder.arrange(value, natural(value.shape))
    return Stored(value.tensor, shape, natural(shape))


def _permute(node: Node, value: Stored, shape: tuple[int, ...]) -> Stored:
    rank = len(shape) + 1
    if node.target is aten.transpose.int:
        first, second = (int(argument(node, name)) % rank for name in ("dim0", "dim1"))
        dims = list(range(rank))
        dims[first], dims[second] = second, first
    else:
        dims = [int(dim) % rank for dim in argument(node, "dims")]
    if dims[0] != 0:
        raise refuse(node, "it moves the batch dimension")
    places = {old - 1: new for new, old in enumerate(dims[1:])}
    return Stored(value.tensor, shape, tuple(places[dim] for dim in value.order))


def _slice(lowering: Lowering, node: Node, value: Stored, shape: tuple[int, ...]) -> Stored:
    dim = _dim(argument(node, "dim"), value.shape, node)
    size = value.shape[dim]
    if node.target is aten.select.int:
        start, step, count = int(argument(node, "index")) % size, 1, 1
    else:
        start, stop, step = (argument(node, name) for name in ("start", "end", "step"))
        kept = range(size)[slice(start, stop, step)]
        start, step, count = kept.start, int(step), len(kept)
    sizes = tuple(count if one == dim else side for one, side in enumerate(value.shape))
    taken = _cut(lowering, value, dim, start, step, sizes)
    return taken if sizes == shape else _reshape(lowering, taken, shape)


def _take_part(lowering: Lowering, node: Node, grid: Grid) -> Stored:
    """One of the tensors that a split returns."""
    split: Any = node.args[0]
    number: Any = node.args[1]
    if split.target not in ops.SPLITS:
        raise refuse(node, f"it reads a result of {op_name(split)}")
    value = lowering.store(split.args[0], grid)
    parts = [tuple(one.shape) for one in split.meta["val"]]
    dim = _dim(argument(split, "dim"), value.shape, split)
    if split.target is aten.unbind.int:
        sizes = tuple(1 if one == dim else side for one, side in enumerate(value.shape))
        return _reshape(lowering, _cut(lowering, value, dim, number, 1, sizes),
                        shape_of(node)[1:])
    start = sum(int(part[dim + 1]) for part in parts[:number])
    return _cut(lowering, value, dim, start, 1, shape_of(node)[1:])


def _cut(lowering: Lowering, value: Stored, dim: int, start: int, step: int,
         sizes: tuple[int, ...]) -> Stored:
    """Every ``step``-th element along a dimension."""
    if sizes == value.shape:
        return value
    result = lowering.builder.tensor(grid_of(value.tensor), sizes, value.order)
    strides, new_strides = list(value.strides()), result.strides()
    first = start * strides[dim]
    strides[dim] *= step
    lowering.builder.add(Copy(output=result.tensor.name, parts=(Part(
        input=value.tensor.name, sizes=tuple(sizes[dim] for dim in value.order) or (1,),
        steps_in=tuple(strides[dim] for dim in value.order) or (0,),
        steps_out=tuple(new_strides[dim] for dim in value.order) or (0,), start_in=first),)))
    return result


def _pad(lowering: Lowering, node: Node, value: Stored, shape: tuple[int, ...],
         grid: Grid) -> Stored:
    if argument(node, "mode", "constant") != "constant":
        raise refuse(node, f"padding with {argument(node, 'mode')!r} has no kernel")
    amounts = [int(one) for one in argument(node, "pad")]
    if min(amounts) < 0 or len(amounts) // 2 > len(shape):
        raise refuse(node, "it removes elements, or pads the batch")
    fill = grid.integer(float(argument(node, "value") or 0.0))
    result = lowering.builder.tensor(grid_of(value.tensor), shape, value.order)
    strides = result.strides()
    start = sum(amounts[2 * place] * strides[len(shape) - 1 - place]
                for place in range(len(amounts) // 2))
    lowering.builder.add(Copy(output=result.tensor.name, fill=fill,
                              parts=(_part(value, result, start=start),)))
    return result


def _part(value: Stored, result: Stored, *, start: int) -> Part:
    """All of a value at a place of the result, which is stored in the same order."""
    strides, new_strides = value.strides(), result.strides()
    return Part(input=value.tensor.name, sizes=tuple(value.shape[dim] for dim in value.order),
                steps_in=tuple(strides[dim] for dim in value.order),
                steps_out=tuple(new_strides[dim] for dim in value.order), start_out=start)


def _dim(dim: Any, shape: tuple[int, ...], node: Node) -> int:
    """A dimension without the batch."""
    found = int(dim) % (len(shape) + 1) - 1
    if found < 0:
        raise refuse(node, "it works along the batch")
    return found

