"""Inputs on which two evaluations of what should be one function are held against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgewright.graph import argument, ops, random_inputs, shape_of, tensor_grid

if TYPE_CHECKING:
    from edgewright.program._program import Program

_PASSED_ON: Final = (ops.RESHAPES | ops.UNFLATTENINGS | ops.PERMUTATIONS | ops.SLICES | ops.COPIES
                     | ops.CASTS)


def probe_inputs(program: Program) -> tuple[Any, ...]:
    """The example inputs, with values made up for those that hold a single number.

    The values of real samples are what a program is made for: noise may lie outside of the ranges
    that it was calibrated on, or of what a logarithm takes. An input of a single number says
    nothing of them (zeros that only show the shape). In its place are drawn: numbers that its own
    quantizer represents, evenly; else normal noise; integers below the rows of the embedding they
    are looked up in. Of two equal samples the second is shuffled, so that they can be told apart.

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
    noise = pytree.tree_leaves(random_inputs(program.example_inputs, seed=0))
    placeholders = program.graph.find_nodes(op="placeholder")
    probes = [_probe(leaf, drawn, node, generator) for leaf, drawn, node in zip(
        leaves, noise, placeholders, strict=True)]
    inputs: tuple[Any, ...] = pytree.tree_unflatten(probes, spec)
    return inputs


def _probe(leaf: Tensor, noise: Tensor, node: Node, generator: torch.Generator) -> Tensor:
    constant = bool((leaf == leaf.flatten()[:1]).all())
    if not leaf.is_floating_point():
        rows = min(_rows_looked_up(node), default=0)
        made_up = constant and rows and leaf.dtype is not torch.bool
        return (torch.randint(rows, leaf.shape, generator=generator).to(leaf.dtype) if made_up
                else leaf)
    if constant:
        return _on_its_grid(noise, node, generator)
    if len(leaf) == 2 and torch.equal(leaf[0], leaf[1]):
        order = torch.randperm(leaf[1].numel(), generator=generator)
        return torch.stack([leaf[0], leaf[1].flatten()[order].reshape(leaf[1].shape)])
    return leaf


def _on_its_grid(noise: Tensor, node: Node, generator: torch.Generator) -> Tensor:
    """Numbers that an input's quantizer represents; the noise where it has none."""
    grids = [tensor_grid(reader) for reader in node.users if reader.target is ops.QUANTIZE]
    if not grids:
        return noise
    grid = grids[0]
    share = torch.rand(noise.shape, generator=generator)
    low, high = ((end - grid.zero_point) * grid.scale for end in (grid.quant_min, grid.quant_max))
    return torch.lerp(torch.tensor(low), torch.tensor(high), share).to(noise.dtype)


def _rows_looked_up(node: Node) -> Iterator[int]:
    """How many rows the embeddings have that an input of integers is looked up in."""
    for reader in node.users:
        if reader.target is ops.EMBEDDING and argument(reader, "indices") is node:
            yield shape_of(argument(reader, "weight"))[0]
        elif reader.target in _PASSED_ON:
            yield from _rows_looked_up(reader)
