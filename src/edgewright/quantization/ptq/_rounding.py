"""Learned rounding: choose up or down for each weight from the output of its layer or block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from edgewright.errors import DataError
from edgewright.graph import ancestors, argument, batch_dim_of
from edgewright.program import Program, find_cuts, outputs_of
from edgewright.quantization.placement import Placement
from edgewright.quantization.scheme import BRECQ, AdaRound
from edgewright.quantization.simulation import FakeQuantizer, QuantizationSimulation

_STRETCH: Final = (-0.1, 1.1)  # gamma and zeta of AdaRound
_PENALTY: Final = 0.01
_SHARPNESS: Final = (20.0, 2.0)  # beta, from the first to the last step
_WARMUP_SHARE: Final = 0.2  # fraction of the steps without a penalty
_LR: Final = 1e-2
_BATCH: Final = 32

Tensors = tuple[Tensor, ...]


def learn_rounding(program: Program, placement: Placement, simulation: QuantizationSimulation,
                   samples: Tensors, rounding: AdaRound | BRECQ, *, seed: int) -> None:
    """Learn to round each weight up or down so that outputs stay close; modifies the simulation.

    `AdaRound` (Nagel et al. 2020, eq. 21-25) learns layer by layer. `BRECQ` (Li et al. 2021) learns
    the layers between two cuts of the program, such as a residual block, together from the block's
    output. The inputs come from the partly quantized network, the targets from the network in
    floating point. Afterwards the simulation's weights lie on their grids. Layers that do not lead
    to the program's last output are rounded to the nearest integers.

    Args:
        program: A program in floating point.
        placement: The placement for this program.
        simulation: The calibrated simulation.
        samples: The program's inputs, (N, ...) each; the values at one cut are held in memory.
        rounding: Whether to learn by layer or by block, and the number of gradient steps.
        seed: Seed of the choice of samples in each step.

    Raises:
        DataError: The output of a layer contains NaN or infinity.
    """
    generator = torch.Generator().manual_seed(seed)
    exact = {node.name: node for node in program.graph.nodes}
    rounded = {node.name: node for node in simulation.module.graph.nodes}
    points = _Points.of(placement, simulation, rounded)
    starts = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    ends = [*(node.name for node in find_cuts(program)), outputs_of(program)[-1].name]
    float_values, quantized_values = samples, samples
    for before, end in pairwise([None, *ends]):
        inputs = starts if before is None else [before]
        exact_inputs = [exact[name] for name in inputs]
        original = _extract_subgraph(program.graph_module, exact_inputs, exact[end])
        sources = [rounded[name] for name in inputs]
        block = _Block(simulation.module, sources, rounded[end], points)
        if isinstance(rounding, BRECQ):
            block.learn(quantized_values, _run(original, float_values), rounding.steps, generator)
        else:
            for layer in block.layers():
                target = _extract_subgraph(program.graph_module, exact_inputs,
                                           exact[layer.end.name])
                before_layer = _extract_subgraph(simulation.module, sources, layer.inputs[0])
                dim = batch_dim_of(exact[layer.end.name]) or 0  # attention may have it second
                layer.learn((_run(before_layer, quantized_values, dim),),
                            _run(target, float_values, dim), rounding.steps, generator)
        quantized_block = _extract_subgraph(simulation.module, sources, rounded[end])
        quantized_values = (_run(quantized_block, quantized_values),)
        float_values = (_run(original, float_values),)


@final
@dataclass(frozen=True)
class _Points:
    """The calls of weight quantizers in the simulation's graph."""

    calls: dict[Node, tuple[str, FakeQuantizer]]  # quantizer call -> weight
    layers: dict[Node, Node]  # quantizer call -> layer
    done: set[str]

    @classmethod
    def of(cls, placement: Placement, simulation: QuantizationSimulation,
           nodes: dict[str, Node]) -> _Points:
        calls, layers = {}, {}
        for point in placement.weights:
            for name in point.layers:
                call = argument(nodes[name], "weight")
                assert isinstance(call, Node)  # noqa: S101  (simulate_quantization put it there)
                calls[call] = point.tensor, simulation.weights[point.tensor]
                layers[call] = nodes[name]
        return cls(calls, layers, set())


@final
@dataclass(frozen=True)
class _Block:
    """A part of the simulation whose weights are rounded together, based on its output."""

    module: GraphModule
    inputs: list[Node]
    end: Node
    points: _Points

    def weights(self) -> list[Node]:
        needed = ancestors([self.end], stop=self.inputs)
        return [call for call, (tensor, _) in self.points.calls.items()
                if call in needed and tensor not in self.points.done]

    def layers(self) -> Iterator[_Block]:
        """Each layer as a separate block, in order."""
        for call in self.weights():
            layer = self.points.layers[call]
            source = layer.args[0]
            assert isinstance(source, Node)  # noqa: S101  (a layer reads a value)
            yield _Block(self.module, [source], layer, self.points)

    def learn(self, inputs: Tensors, target: Tensor, steps: int,
              generator: torch.Generator) -> None:
        calls = self.weights()
        if not calls:
            return
        if not bool(torch.isfinite(target).all()):
            raise DataError(f"{self.end.name} is NaN or infinite for some samples, so its rounding "
                            "cannot be learned; check the calibration data and the weights for "
                            "such values, or use rounding='nearest'")
        tensors = dict(self.module.named_parameters())
        roundings = [_Rounding(tensors[self.points.calls[call][0]], self.points.calls[call][1])
                     for call in calls]
        part = _extract_subgraph(self.module, [*self.inputs, *calls], self.end)
        optimizer = torch.optim.Adam([rounding.logits for rounding in roundings], lr=_LR)
        for step in range(steps):
            chosen = torch.randint(len(target), (min(_BATCH, len(target)),), generator=generator)
            optimizer.zero_grad()
            found = part(*(tensor[chosen] for tensor in inputs), *(r.soft() for r in roundings))
            loss = (found - target[chosen]).square().flatten(1).sum(1).mean()
            loss = loss / max(1, target[0].numel() // target.shape[1]) + _penalty(
                roundings, step / steps)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        for call, rounding in zip(calls, roundings, strict=True):
            tensor = self.points.calls[call][0]
            with torch.no_grad():
                tensors[tensor].copy_(rounding.hard())
            self.points.done.add(tensor)


class _Rounding:
    """A weight with a learned position between its two nearest integers (AdaRound, eq. 23)."""

    def __init__(self, weight: Tensor, quantizer: FakeQuantizer) -> None:
        self._shape = weight.shape
        self._limits = quantizer.grid.limits
        self._scale = quantizer.effective_scale().detach()[..., None]
        self._zero = quantizer.effective_zero_point().detach()[..., None]
        steps = weight.detach().reshape(*self._scale.shape[:-1], -1) / self._scale
        self._floor = torch.floor(steps)
        least, most = _STRETCH
        share = (steps - self._floor - least) / (most - least)
        self.logits = torch.logit(share).requires_grad_(True)

    def up(self) -> Tensor:
        """The fraction of a step by which each weight is rounded up, 0 to 1."""
        least, most = _STRETCH
        return (torch.sigmoid(self.logits) * (most - least) + least).clamp(0, 1)

    def soft(self) -> Tensor:
        return self._weight(self.up())

    def hard(self) -> Tensor:
        return self._weight((self.up() >= 0.5).float())

    def _weight(self, up: Tensor) -> Tensor:
        integers = torch.clamp(self._floor + up + self._zero, *self._limits) - self._zero
        return (integers * self._scale).reshape(self._shape)


def _penalty(roundings: list[_Rounding], progress: float) -> Tensor | float:
    """The penalty that drives each weight to one of its two integers (AdaRound, eq. 24)."""
    if progress < _WARMUP_SHARE:
        return 0.0
    first, last = _SHARPNESS
    beta = first + (last - first) * (progress - _WARMUP_SHARE) / (1 - _WARMUP_SHARE)
    total = sum((1 - (2 * r.up() - 1).abs().pow(beta)).sum() for r in roundings)
    return _PENALTY * total


def _extract_subgraph(module: GraphModule, inputs: list[Node], end: Node) -> Callable[..., Tensor]:
    """Extract the part of a graph from ``inputs`` to ``end``; it shares the tensors."""
    graph = Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    needed = ancestors([end], stop=inputs) - set(inputs)
    for node in module.graph.nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[end])
    return GraphModule(module, graph)


def _run(part: Callable[..., Tensor], inputs: Tensors, dim: int = 0) -> Tensor:
    """Compute the output for all samples, batch by batch, and make their dimension the first."""
    with torch.no_grad():
        return torch.cat([part(*batch).movedim(dim, 0) for batch in zip(
            *(torch.split(tensor, _BATCH) for tensor in inputs), strict=True)])
