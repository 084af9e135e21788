"""Insert fake quantizers into the graph of a program."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, final

from torch import Tensor
from torch.fx import Graph, Node

from edgewright.capture import CapturedModule, make_trainable
from edgewright.graph import argument, set_argument, shape_of
from edgewright.program import Program
from edgewright.quantization.placement import ActivationPoint, Placement
from edgewright.quantization.simulation._dynamic import DynamicQuantizer
from edgewright.quantization.simulation._fake_quantizer import FakeQuantizer, LearnedRange


@final
@dataclass(frozen=True)
class QuantizationSimulation:
    """A module with fake quantizers, and the quantizers by name.

    Attributes:
        module: Can be trained and evaluated; layers and values have the program's names.
        own: Names of the program's tensors in `module`; all other tensors belong to quantizers.
        weights: Weight quantizers, by the name of the tensor.
        activations: Static activation quantizers, by the name of their point.
    """

    module: CapturedModule
    own: frozenset[str]
    weights: Mapping[str, FakeQuantizer]
    activations: Mapping[str, FakeQuantizer]

    @property
    def quantizers(self) -> tuple[FakeQuantizer, ...]:
        """All quantizers, those of weights first."""
        return *self.weights.values(), *self.activations.values()

    def state(self) -> dict[str, Tensor]:
        """The current values of the program's tensors."""
        return {name: value for name, value in self.module.state_dict().items()
                if name in self.own}


def simulate_quantization(program: Program, placement: Placement,
                          learned_range: LearnedRange = "nothing") -> QuantizationSimulation:
    """Insert a fake quantizer at every point of a copy of the program.

    The quantizers are in mode ``pass`` until they are calibrated.

    Args:
        program: A program in floating point; not modified.
        placement: The placement for this program.
        learned_range: What training learns besides the weights.
    """
    module = make_trainable(program.graph_module, program.exits)
    own = frozenset(module.state_dict())
    owner = _free_name(module)
    weights = {point.tensor: FakeQuantizer(
        point.grid, point.shape, learned_range="nothing" if learned_range == "nothing" else "lsq")
        for point in placement.weights}
    activations: dict[str, DynamicQuantizer | FakeQuantizer] = {
        point.name: DynamicQuantizer(point.grid) if point.dynamic
        else FakeQuantizer(point.grid, learned_range=learned_range)
        for point in placement.activations}
    nodes = {node.name: node for node in module.graph.nodes}
    for index, (point, quantizer) in enumerate(zip(placement.weights, weights.values(),
                                                   strict=True)):
        target = f"{owner}.w{index}"
        module.add_submodule(target, quantizer)
        for layer in point.layers:
            weight = argument(nodes[layer], "weight")
            set_argument(nodes[layer], "weight",
                         _call(module.graph, target, (weight,), before=nodes[layer]))
        for reader in map(nodes.__getitem__, point.readers):
            for value in reader.all_input_nodes:
                if value.op == "get_attr" and value.target == point.tensor:
                    reader.replace_input_with(
                        value, _call(module.graph, target, (value,), before=reader))
    writers = {}
    for index, (name, stage) in enumerate(activations.items()):
        target = f"{owner}.a{index}"
        module.add_submodule(target, stage)
        writers[name] = _make_inserter(module.graph, target, stage)
    insert_activations(nodes, placement, lambda point: writers[point.name])
    module.recompile()
    static = {name: stage for name, stage in activations.items()
              if isinstance(stage, FakeQuantizer)}
    return QuantizationSimulation(module, own, weights, static)


InsertFunction = Callable[[Node], Node]


def insert_activations(nodes: Mapping[str, Node], placement: Placement,
                       insert: Callable[[ActivationPoint], InsertFunction]) -> None:
    """Insert calls after every quantized activation, and make its readers read the result.

    Args:
        nodes: The graph's nodes, by name.
        placement: The quantization points.
        insert: Returns, for a point, a function that inserts calls after a value and returns the
            last call.
    """
    now: dict[str, Node] = {}
    for point in placement.activations:
        write = insert(point)
        for place in point.uses:
            source = now.get(place.value, nodes[place.value])
            users = list(source.users) if place.readers is None else [
                nodes[reader] for reader in place.readers]
            result = write(source)
            for user in users:
                user.replace_input_with(source, result)
            if place.readers is None:
                now[place.value] = result


def _free_name(module: CapturedModule) -> str:
    """A name that no submodule or tensor of the model has."""
    return next(name for name in chain(("quantizers",), (f"quantizers_{n}" for n in count(1)))
                if not hasattr(module, name))


def _make_inserter(graph: Graph, target: str,
                   stage: DynamicQuantizer | FakeQuantizer) -> InsertFunction:
    """Return a function that inserts a quantizer call after a value.

    A fake quantizer also gets the number of values per sample.
    """
    def write(value: Node) -> Node:
        sample_values = (math.prod(shape_of(value)),) if isinstance(stage, FakeQuantizer) else ()
        return _call(graph, target, (value, *sample_values), before=value.next)
    return write


def _call(graph: Graph, target: str, args: tuple[Any, ...], before: Node) -> Node:
    with graph.inserting_before(before):
        call = graph.call_module(target, args)
    call.meta["val"] = args[0].meta["val"]
    return call
