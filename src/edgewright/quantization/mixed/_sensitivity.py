"""How much the loss rises when one layer alone is quantised."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.fx import Node

from edgewright.errors import DataError
from edgewright.program import Program
from edgewright.quantization.calibration import calibrate_activations, calibrate_weights, fitting
from edgewright.quantization.mixed._hessian import average_hessian_traces
from edgewright.quantization.placement import ActivationPoint, Place, Placement, place
from edgewright.quantization.scheme import MixedPrecision, Precision, Scheme
from edgewright.quantization.simulation import FakeQuantizer, Simulation, simulate
from edgewright.task import Split, Task
from edgewright.training import label_loss, predict

_BATCH: Final = 64

Sensitivities = Mapping[str, Mapping[Precision, float]]
Rises = dict[tuple[str, int], float]  # of a tensor's layer at so many bits


def sensitivities(program: Program, task: Task, scheme: Scheme,
                  layers: Mapping[str, Sequence[Precision]], mixed: MixedPrecision,
                  seed: int = 0) -> Sensitivities:
    """Predict by how much the loss rises at each precision of each layer.

    Weights and activations are looked at apart, and their rises added up. Everything else is in
    floating point. ``loss`` measures the rise on training samples that the ranges were not taken
    from. ``hessian`` is ``trace(H) / 2n * ||Q(W) - W||^2`` of each weight of n entries (HAWQ-V2,
    Dong et al. 2020, eq. 2.11; the half, left out there, makes it a loss), and for activations the
    same measured rise. A trace that comes out below zero counts as zero.

    Args:
        program: In floating point.
        task: Its training split; no other is looked at.
        scheme: Its grids, granularity, how ranges are found.
        layers: What to try, by the name of each layer's weight.
        mixed: The method and the number of samples.
        seed: Of the samples and of the Hessian's vectors.

    Returns:
        The rise of the mean loss at each of ``layers``' precisions.

    Raises:
        DataError: The training split has fewer than two samples, or they do not fit the program.
        ModelError: ``hessian``, and an operator has no second derivative.

    Example:
        >>> from edgewright.quantization import Quantization, resolve
        >>> program = Program.capture(torch.nn.Linear(4, 2), torch.zeros(1, 4))
        >>> x = torch.randn(64, 4)
        >>> task = Task((x, x.argmax(1) % 2), test=(x[:9], x[:9].argmax(1) % 2))
        >>> tried = {"weight": [Precision(weights=None, activations=None), Precision()]}
        >>> found = sensitivities(program, task, resolve(Quantization()), tried,
        ...                       MixedPrecision(size=9))
        >>> found["weight"][tried["weight"][0]], abs(found["weight"][Precision()]) < 0.1
        (0.0, True)
    """
    shown, held_out = _halves(task.train.sample(2 * mixed.samples, seed=seed))
    next(fitting(program.graph_module, (batch.inputs for batch in shown.batches(_BATCH))))
    weights: Rises = {}
    activations: Rises = {}
    for bits in sorted({bits for precisions in layers.values() for precision in precisions
                        for bits in (precision.weights, precision.activations) if bits}):
        probe = _Probe.of(program, scheme, layers, bits, shown)
        before = _loss(probe.simulation, held_out)
        if mixed.method == "loss":
            weights |= {(name, bits): probe.rise([quantizer], held_out, before)
                        for name, quantizer in probe.simulation.weights.items()
                        if bits in {precision.weights for precision in layers[name]}}
        else:
            weights |= {(name, bits): error for name, error in probe.squared_errors().items()}
        activations |= {(name, bits): probe.rise(quantizers, held_out, before)
                        for name, quantizers in probe.readers.items()
                        if bits in {precision.activations for precision in layers[name]}}
    if mixed.method == "hessian":
        traces = average_hessian_traces(program.module(), list(layers), shown.batches(_BATCH),
                                        seed=seed)
        weights = {(name, bits): max(traces[name], 0.0) / 2 * error
                   for (name, bits), error in weights.items()}
    return {name: {precision: _rise(weights, name, precision.weights)
                   + _rise(activations, name, precision.activations) for precision in precisions}
            for name, precisions in layers.items()}


def _rise(rises: Rises, name: str, bits: int | None) -> float:
    return 0.0 if bits is None else rises.get((name, bits), 0.0)


@dataclass(frozen=True)
class _Probe:
    """A network all of whose layers can be quantised to one number of bits, one at a time.

    Attributes:
        simulation: Its quantisers have their ranges and pass values on.
        readers: Those of what each layer reads, by its weight's name.
    """

    simulation: Simulation
    readers: Mapping[str, list[FakeQuantizer]]

    @classmethod
    def of(cls, program: Program, scheme: Scheme, layers: Collection[str], bits: int,
           shown: Split) -> _Probe:
        placement, readers = _own_points(program, scheme, layers, bits)
        simulation = simulate(program, placement)
        _take_ranges(simulation, scheme, shown)
        return cls(simulation, {name: [simulation.activations[call] for call in calls]
                                for name, calls in readers.items()})

    def rise(self, quantizers: Iterable[FakeQuantizer], split: Split, before: float) -> float:
        """By how much the loss is above ``before`` with these quantisers on."""
        quantizers = list(quantizers)
        if not quantizers:
            return 0.0
        for quantizer in quantizers:
            quantizer.mode = "quantize"
        after = _loss(self.simulation, split)
        for quantizer in quantizers:
            quantizer.mode = "pass"
        return after - before

    def squared_errors(self) -> dict[str, float]:
        """Summed over each weight's entries."""
        tensors, found = self.simulation.state(), {}
        for name, quantizer in self.simulation.weights.items():
            error = _quantized(quantizer, tensors[name]) - tensors[name]
            found[name] = float(error.square().sum())
        return found


def _own_points(program: Program, scheme: Scheme, layers: Collection[str], bits: int,
                ) -> tuple[Placement, dict[str, list[str]]]:
    """A point for each weight and for what each call reads, and the calls by their weight."""
    alike = replace(scheme.with_bits(bits, bits), first_last_bits=None)
    weights = tuple(point for point in place(program, alike).weights if point.tensor in layers)
    nodes = {node.name: node for node in program.calls()}
    readers = {point.tensor: list(point.layers) if scheme.mode == "static" else []
               for point in weights}
    points = [ActivationPoint(call, scheme.activation_grid(bits),
                              (Place(_read(nodes[call]), (call,)),))
              for calls in readers.values() for call in calls]
    return Placement(weights, tuple(points), {}), readers


def _read(call: Node) -> str:
    value = call.args[0]
    if not isinstance(value, Node):
        raise TypeError(f"{call.name} has no tensor to read")
    return value.name


def _take_ranges(simulation: Simulation, scheme: Scheme, shown: Split) -> None:
    """Of the weights from themselves, of the activations from the samples."""
    calibrate_weights(simulation, scheme.range_estimator)
    for quantizer in simulation.weights.values():
        quantizer.mode = "pass"
    calibrate_activations(simulation, scheme.range_estimator,
                          (batch.inputs for batch in shown.batches(_BATCH)))
    for quantizer in simulation.activations.values():
        quantizer.mode = "pass"


def _quantized(quantizer: FakeQuantizer, weight: Tensor) -> Tensor:
    quantizer.mode = "quantize"
    with torch.no_grad():
        found: Tensor = quantizer(weight)
    quantizer.mode = "pass"
    return found


def _loss(simulation: Simulation, split: Split) -> float:
    """The mean cross-entropy of the samples, over all outputs."""
    found = predict(simulation.module, split, batch_size=4 * _BATCH)
    return float(label_loss(found.outputs, found.targets))


def _halves(split: Split) -> tuple[Split, Split]:
    """Every other sample, and those between."""
    if len(split) < 2:
        raise DataError(f"the train split has {len(split)} sample; two at least are needed to "
                        "take ranges from one and to measure the loss on another")
    return split.select(range(0, len(split), 2)), split.select(range(1, len(split), 2))
