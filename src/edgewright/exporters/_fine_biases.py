"""Weights of few bits multiplied, so that biases lie on the grid of the products.

Kernels of integers add a bias as it is stored: in steps of input scale times weight scale. With few
bits both scales are large, and biases would be coarse. A program stores them finer, by a power of
two; a kernel reads bytes, where weights of few bits have the room to be multiplied by as much and
their scale divided. The products, and so the function, are the same.
"""

from __future__ import annotations

from itertools import chain, count
from typing import Any, final

from torch import Tensor
from torch.fx import GraphModule, Node

from edgewright.graph import (
    argument,
    channel_grid,
    finalize_graph,
    get_fact,
    set_argument,
    stored_tensors,
)
from edgewright.program import Program


def on_the_grid_of_products(program: Program) -> Program:
    """The program with weights multiplied wherever a bias is stored finer than the products.

    Returns:
        ``program`` itself where there is no such bias.
    """
    result = program.copy()
    finer = [(layer, factor) for bias in result.calls()
             if (factor := get_fact(bias, "finer_by") or 1) > 1 for layer in bias.users]
    if not finer:
        return program
    multiples = _Multiples(result.graph_module)
    for layer, factor in finer:
        _multiply(multiples, layer, factor)
    finalize_graph(result.graph_module)
    return result


@final
class _Multiples:
    """Multiples of a module's stored tensors, each stored once."""

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        self._tensors = stored_tensors(module)
        self._names: dict[tuple[str, float], str] = {}

    def read(self, node: Any, by: float, name: str) -> Node:
        """A read of the tensor that ``node`` reads, multiplied; its name begins with ``name``."""
        key = str(node.target), by
        if key not in self._names:
            self._names[key] = self._store(name, self._tensors[key[0]] * by)
        return self._module.graph.get_attr(self._names[key])

    def _store(self, name: str, value: Tensor) -> str:
        owner_name, _, stem = name.rpartition(".")
        owner = self._module.get_submodule(owner_name)
        leaf = next(leaf for leaf in chain((stem,), (f"{stem}_{number}" for number in count(1)))
                    if not hasattr(owner, leaf))
        owner.register_buffer(leaf, value)
        return f"{owner_name}.{leaf}".lstrip(".")


def _multiply(multiples: _Multiples, layer: Node, factor: int) -> None:
    weight = argument(layer, "weight")
    grid = channel_grid(weight)
    with weight.graph.inserting_before(weight):
        integers, scales, zero_points = (
            multiples.read(node, by, f"{node.target}_x{factor}") for node, by in (
                (weight.args[0], factor), (grid.scales, 1 / factor), (grid.zero_points, factor)))
        multiplied = weight.graph.call_function(weight.target, (integers, *grid._replace(
            scales=scales, zero_points=zero_points, quant_min=grid.quant_min * factor,
            quant_max=grid.quant_max * factor)))
    set_argument(layer, "weight", multiplied)
