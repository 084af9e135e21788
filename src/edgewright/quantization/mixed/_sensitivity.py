"""Measure how much the loss rises when a single layer is quantized."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.fx import Node

from edgewright.errors import DataError
from edgewright.goals import Goal
from edgewright.program import Program
from edgewright.quantization.calibration import (
    calibrate_activation_ranges,
    calibrate_weight_ranges,
    validate_batches,
)
from edgewright.quantization.mixed._hessian import average_hessian_traces
from edgewright.quantization.placement import ActivationPoint, Placement, ValueUse, place
from edgewright.quantization.scheme import MixedPrecision, Precision, Scheme
from edgewright.quantization.simulation import (
    FakeQuantizer,
    QuantizationSimulation,
    simulate_quantization,
)
from edgewright.task import Split, Task
from edgewright.training import measure_loss

_BATCH: Final = 64

Sensitivities = Mapping[str, Mapping[Precision, float]]
Rises = dict[tuple[str, int], float]  # by tensor and number of bits


def measure_sensitivities(program: Program, task: Task, scheme: Scheme,
                  layers: Mapping[str, Sequence[Precision]], mixed: MixedPrecision,
                  seed: int = 0) -> Sensitivities:
    """Predict how much the loss rises for each precision of each layer.

    Weights and activations are quantized separately, with everything else in floating point, and
    their rises are added. ``loss`` measures the rise on training samples that were not used for
    calibration. ``hessian`` predicts ``trace(H) / 2n * ||Q(W) - W||^2`` for each weight with n
    entries (HAWQ-V2, Dong et al. 2020, eq. 2.11; the paper omits the factor 1/2, which makes it a
    loss), and measures the rise for activations as ``loss`` does. Negative traces count as zero.

    Args:
        program: A program in floating point.
        task: The task; only its training split is used.
        scheme: Determines the grids, the granularity and the range estimator.
        layers: The precisions to try, by the name of each layer's weight.
        mixed: The method and the number of samples.
        seed: Seed of the choice of samples and of the Hessian's random vectors.

    Returns:
        The rise of the mean loss for each precision in ``layers``.

    Raises:
        DataError: The training split has fewer than two samples, or they do not fit the program.
        ModelError: The method is ``hessian`` and an operator has no second derivative.

    Example:
        >>> from edgewright.quantization import Quantization, resolve
        >>> program = Program.capture(torch.nn.Linear(4, 2), torch.zeros(1, 4))
        >>> x = torch.randn(64, 4)
        >>> task = Task((x, x.argmax(1) % 2), test=(x[:9], x[:9].argmax(1) % 2))
        >>> tried = {"weight": [Precision(weights=None, activations=None), Precision()]}
        >>> found = measure_sensitivities(program, task, resolve(Quantization()), tried,
        ...                       MixedPrecision(size=9))
        >>> found["weight"][tried["weight"][0]], abs(found["weight"][Precision()]) < 0.1
        (0.0, True)
    """
    shown, held_out = _split_in_half(task.train.sample(2 * mixed.samples, seed=seed))
    next(validate_batches(program.graph_module, (batch.inputs for batch in shown.batches(_BATCH))))
    weights: Rises = {}
    activations: Rises = {}
    for bits in sorted({bits for precisions in layers.values() for precision in precisions
                        for bits in (precision.weights, precision.activations) if bits}):
        probe = _Probe.of(program, scheme, layers, bits, shown, task.goal)
        before = probe.loss(held_out)
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
                                        task.goal, seed=seed)
        weights = {(name, bits): max(traces[name], 0.0) / 2 * error
                   for (name, bits), error in weights.items()}
    return {name: {precision: _rise(weights, name, precision.weights)
                   + _rise(activations, name, precision.activations) for precision in precisions}
            for name, precisions in layers.items()}


def _rise(rises: Rises, name: str, bits: int | None) -> float:
    return 0.0 if bits is None else rises.get((name, bits), 0.0)


@dataclass(frozen=True)
class _Probe:
    """A network whose layers can be quantized one at a time, all to the same number of bits.

    Attributes:
        simulation: Its quantizers are calibrated and in mode ``pass``.
        readers: The quantizers of each layer's inputs, by the name of its weight.
        goal: Its loss is measured.
    """

    simulation: QuantizationSimulation
    readers: Mapping[str, list[FakeQuantizer]]
    goal: Goal

    @classmethod
    def of(cls, program: Program, scheme: Scheme, layers: Collection[str],
           bits: int, shown: Split, goal: Goal) -> _Probe:
        placement, readers = _isolated_points(program, scheme, layers, bits)
        simulation = simulate_quantization(program, placement)
        _calibrate_ranges(simulation, scheme, shown)
        return cls(simulation, {name: [simulation.activations[call] for call in calls]
                                for name, calls in readers.items()}, goal)

    def loss(self, split: Split) -> float:
        """The mean loss of the samples, over all exits."""
        return measure_loss(self.simulation.module, split, self.goal, batch_size=4 * _BATCH)

    def rise(self, quantizers: Iterable[FakeQuantizer], split: Split, before: float) -> float:
        """The loss with these quantizers enabled, minus ``before``."""
        quantizers = list(quantizers)
        if not quantizers:
            return 0.0
        for quantizer in quantizers:
            quantizer.mode = "quantize"
        after = self.loss(split)
        for quantizer in quantizers:
            quantizer.mode = "pass"
        return after - before

    def squared_errors(self) -> dict[str, float]:
        """The squared quantization error of each weight, summed over its entries."""
        tensors, found = self.simulation.state(), {}
        for name, quantizer in self.simulation.weights.items():
            error = _quantized(quantizer, tensors[name]) - tensors[name]
            found[name] = float(error.square().sum())
        return found


def _isolated_points(program: Program, scheme: Scheme, layers: Collection[str], bits: int,
                ) -> tuple[Placement, dict[str, list[str]]]:
    """One point per weight and per input of a call, and the calls by the name of their weight."""
    alike = replace(scheme.with_bits(bits, bits), first_last_bits=None)
    weights = tuple(point for point in place(program, alike).weights if point.tensor in layers)
    nodes = {node.name: node for node in program.calls()}
    readers = {point.tensor: list(point.layers) if scheme.activation_mode == "static" else []
               for point in weights}
    points = [ActivationPoint(call, scheme.activation_grid(bits),
                              (ValueUse(_read_value(nodes[call]), (call,)),))
              for calls in readers.values() for call in calls]
    return Placement(weights, tuple(points), {}), readers


def _read_value(call: Node) -> str:
    value = call.args[0]
    if not isinstance(value, Node):
        raise TypeError(f"{call.name} has no tensor to read")
    return value.name


def _calibrate_ranges(simulation: QuantizationSimulation, scheme: Scheme, shown: Split) -> None:
    """Calibrate all quantizers, and leave them in mode ``pass``."""
    calibrate_weight_ranges(simulation, scheme.range_estimator)
    for quantizer in simulation.weights.values():
        quantizer.mode = "pass"
    calibrate_activation_ranges(simulation, scheme.range_estimator,
                                (batch.inputs for batch in shown.batches(_BATCH)))
    for quantizer in simulation.activations.values():
        quantizer.mode = "pass"


def _quantized(quantizer: FakeQuantizer, weight: Tensor) -> Tensor:
    quantizer.mode = "quantize"
    with torch.no_grad():
        found: Tensor = quantizer(weight)
    quantizer.mode = "pass"
    return found


def _split_in_half(split: Split) -> tuple[Split, Split]:
    """Split into samples with even and with odd index."""
    if len(split) < 2:
        raise DataError(f"the train split has {len(split)} sample; at least two are needed, one "
                        "for calibration and one to measure the loss")
    return split.select(range(0, len(split), 2)), split.select(range(1, len(split), 2))
