"""A program with fake quantisers in its graph: what is calibrated, trained and looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, final

from torch import Tensor
from torch.fx import Graph, Node

from edgewright.capture import CapturedModule, trainable
from edgewright.graph import argument, set_argument, shape_of
from edgewright.program import Program
from edgewright.quantization.placement import ActivationPoint, Placement
from edgewright.quantization.simulation._dynamic import DynamicQuantizer
from edgewright.quantization.simulation._fake_quantizer import FakeQuantizer, Learns


@final
@dataclass(frozen=True)
class Simulation:
    """A module of its own tensors, and its quantisers by the name of their point.

    Attributes:
        module: Trains and evaluates; layers and values have the program's names.
        own: Names of the program's own tensors, as `module` has them; the others are quantisers'.
        weights: By the name of the tensor.
        activations: By the name of the point, those whose scale is fixed.
    """

    module: CapturedModule
    own: frozenset[str]
    weights: Mapping[str, FakeQuantizer]
    activations: Mapping[str, FakeQuantizer]

    @property
    def quantizers(self) -> tuple[FakeQuantizer, ...]:
        """All of them, the weights' first."""
        return *self.weights.values(), *self.activations.values()

    def state(self) -> dict[str, Tensor]:
        """The program's own tensors, as they are now."""
        return {name: value for name, value in self.module.state_dict().items()
                if name in self.own}


def simulate(program: Program, placement: Placement, learns: Learns = "nothing") -> Simulation:
    """Put a fake quantiser at every point of a copy of the program.

    The quantisers pass values on as they are, until they are told otherwise.

    Args:
        program: In floating point; left as it is.
        placement: Made from it.
        learns: What training finds besides the weights.
    """
    module = trainable(program.graph_module, program.exits)
    own = frozenset(module.state_dict())
    owner = _free_name(module)
    weights = {point.tensor: FakeQuantizer(
        point.grid, point.shape, learns="nothing" if learns == "nothing" else "lsq")
        for point in placement.weights}
    activations: dict[str, DynamicQuantizer | FakeQuantizer] = {
        point.name: DynamicQuantizer(point.grid) if point.dynamic
        else FakeQuantizer(point.grid, learns=learns) for point in placement.activations}
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
        writers[name] = _writer(module.graph, target, stage)
    insert_activations(nodes, placement, lambda point: writers[point.name])
    module.recompile()
    return Simulation(module, own, weights, {name: stage for name, stage in activations.items()
                                        if isinstance(stage, FakeQuantizer)})


Insert = Callable[[Node], Node]


def insert_activations(nodes: Mapping[str, Node], placement: Placement,
                       insert: Callable[[ActivationPoint], Insert]) -> None:
    """Rewire a graph so that values are read through what ``insert`` puts after them.

    Args:
        nodes: The graph's own, by name.
        placement: Which points there are.
        insert: For a point, a function that writes calls after a value and returns the last.
    """
    now: dict[str, Node] = {}
    for point in placement.activations:
        write = insert(point)
        for place in point.places:
            source = now.get(place.value, nodes[place.value])
            users = list(source.users) if place.readers is None else [
                nodes[reader] for reader in place.readers]
            result = write(source)
            for user in users:
                user.replace_input_with(source, result)
            if place.readers is None:
                now[place.value] = result


def _free_name(module: CapturedModule) -> str:
    """A name that none of the model's own submodules and tensors has."""
    return next(name for name in chain(("quantizers",), (f"quantizers_{n}" for n in count(1)))
                if not hasattr(module, name))


def _writer(graph: Graph, target: str, stage: DynamicQuantizer | FakeQuantizer) -> Insert:
    """Writes a call after a value; one that learns is told how many values a sample has there."""
    def write(value: Node) -> Node:
        told = (math.prod(shape_of(value)),) if isinstance(stage, FakeQuantizer) else ()
        return _call(graph, target, (value, *told), before=value.next)
    return write


def _call(graph: Graph, target: str, args: tuple[Any, ...], before: Node) -> Node:
    with graph.inserting_before(before):
        call = graph.call_module(target, args)
    call.meta["val"] = args[0].meta["val"]
    return call
