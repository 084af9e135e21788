"""Inputs for comparing two implementations of the same program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgewright.graph import argument, draw_random_inputs, ops, shape_of, tensor_grid

if TYPE_CHECKING:
    from edgewright.program._program import Program

_LAYOUT_OPERATORS: Final = (ops.RESHAPES | ops.UNFLATTENINGS | ops.PERMUTATIONS | ops.SLICES
                            | ops.COPIES | ops.CASTS)


def probe_inputs(program: Program) -> tuple[Any, ...]:
    """The example inputs, with random values for inputs that are constant.

    Real samples are preferred: noise may be outside the calibrated ranges, or outside the domain of
    a logarithm. But a constant input (for example zeros that only give the shape) is replaced by
    random values: uniform over the range of the input's own quantizer if it has one, else normal
    noise; for indices, integers below the number of rows of their embedding. If the two samples are
    equal, the second is shuffled, so that they can be distinguished.

    Returns:
        Two samples, nested as the example inputs; the same ones every time.

    Example:
        >>> from edgewright.program import Program
        >>> program = Program.capture(torch.nn.Embedding(9, 4), torch.zeros(1, 5, dtype=torch.long))
        >>> ids, = probe_inputs(program)
        >>> ids.shape, bool((ids < 9).all()), bool((ids > 0).any())
        (torch.Size([2, 5]), True, True)
    """
    generator = torch.Generator().manual_seed(0)
    leaves, spec = pytree.tree_flatten(program.example_inputs)
    noise = pytree.tree_leaves(draw_random_inputs(program.example_inputs, seed=0))
    placeholders = program.graph.find_nodes(op="placeholder")
    probes = [_probe(leaf, drawn, node, generator) for leaf, drawn, node in zip(
        leaves, noise, placeholders, strict=True)]
    inputs: tuple[Any, ...] = pytree.tree_unflatten(probes, spec)
    return inputs


def is_constant_input(leaf: Tensor) -> bool:
    """Whether all values of an example input are equal, so that it only gives the shape."""
    return bool((leaf == leaf.flatten()[:1]).all())


def _probe(leaf: Tensor, noise: Tensor, node: Node, generator: torch.Generator) -> Tensor:
    constant = is_constant_input(leaf)
    if not leaf.is_floating_point():
        rows = min(_embedding_rows(node), default=0)
        is_replaced = constant and rows and leaf.dtype is not torch.bool
        return (torch.randint(rows, leaf.shape, generator=generator).to(leaf.dtype) if is_replaced
                else leaf)
    if constant:
        return _sample_quantizer_range(noise, node, generator)
    if len(leaf) == 2 and torch.equal(leaf[0], leaf[1]):
        order = torch.randperm(leaf[1].numel(), generator=generator)
        return torch.stack([leaf[0], leaf[1].flatten()[order].reshape(leaf[1].shape)])
    return leaf


def _sample_quantizer_range(noise: Tensor, node: Node, generator: torch.Generator) -> Tensor:
    """Uniform values within the range of an input's quantizer, or the noise if it has none."""
    grids = [tensor_grid(reader) for reader in node.users if reader.target is ops.QUANTIZE]
    if not grids:
        return noise
    grid = grids[0]
    position = torch.rand(noise.shape, generator=generator)
    low, high = ((end - grid.zero_point) * grid.scale for end in (grid.quant_min, grid.quant_max))
    return torch.lerp(torch.tensor(low), torch.tensor(high), position).to(noise.dtype)


def _embedding_rows(node: Node) -> Iterator[int]:
    """Row counts of the embeddings that an integer input indexes."""
    for reader in node.users:
        if reader.target is ops.EMBEDDING and argument(reader, "indices") is node:
            yield shape_of(argument(reader, "weight"))[0]
        elif reader.target in _LAYOUT_OPERATORS:
            yield from _embedding_rows(reader)
