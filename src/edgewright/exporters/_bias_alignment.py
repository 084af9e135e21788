"""Multiply low-bit weights so that the scale of their products equals the scale of the bias.

Integer kernels add a bias in steps of input scale times weight scale. With few bits the weight
scale is large, and the bias would be coarse, so programs store the bias with a scale that is finer
by a power of two. Kernels read weights as bytes, so low-bit weights can be multiplied by that power
of two and their scale divided by it. The products, and with them the function, do not change.
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


def align_weight_scales_to_bias(program: Program) -> Program:
    """Multiply the weights of every layer whose bias has a finer scale than the products.

    Returns:
        A new program, or ``program`` itself if there is no such bias.
    """
    result = program.copy()
    finer = [(layer, factor) for bias in result.calls()
             if (factor := get_fact(bias, "finer_by") or 1) > 1 for layer in bias.users]
    if not finer:
        return program
    multiples = _ScaledTensors(result.graph_module)
    for layer, factor in finer:
        _multiply(multiples, layer, factor)
    finalize_graph(result.graph_module)
    return result


@final
class _ScaledTensors:
    """Stores multiples of a module's tensors, each only once."""

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        self._tensors = stored_tensors(module)
        self._names: dict[tuple[str, float], str] = {}

    def read(self, node: Any, by: float, name: str) -> Node:
        """Insert a read of ``node``'s tensor times ``by``; its name starts with ``name``."""
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


def _multiply(multiples: _ScaledTensors, layer: Node, factor: int) -> None:
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
