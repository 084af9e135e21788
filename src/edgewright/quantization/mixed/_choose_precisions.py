"""Mixed precision: choose the bits of each layer from sensitivities and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from edgewright.allocation import PrecisionLimits, PrecisionOption, allocate_precisions
from edgewright.graph import FLOAT_BITS, count_macs, match_tensors, stored_tensors
from edgewright.program import Program, fold_batch_norm
from edgewright.quantization.mixed._sensitivity import measure_sensitivities
from edgewright.quantization.placement import WeightPoint, place, stored_bias
from edgewright.quantization.scheme import MixedPrecision, Precision, Scheme
from edgewright.task import Task
from edgewright.timing import PrecisionTimer, PrecisionTimes, measure_precisions

_FLOAT_BYTES: Final = 4
_OTHER_TENSORS: Final = ""  # the entry, among the layers, for all other tensors


def choose_precisions(program: Program, task: Task, scheme: Scheme, seed: int = 0, *,
                      timer: PrecisionTimer | None = None) -> Scheme:
    """Choose the bits of each layer with the smallest predicted rise of the loss within the limits.

    Layers named by ``scheme.layers`` keep their bits, and layers next to inputs and outputs have at
    least ``scheme.first_last_bits``; both count toward the limits. Tensors that stay in floating
    point in any case count only toward the size.

    Args:
        program: A program in floating point.
        task: The task; only its training split is used.
        scheme: Its ``mixed`` holds the limits and the candidate bits.
        seed: Seed of the choice of samples.
        timer: Measures the latency of a layer for a latency limit; ONNX Runtime by default.

    Returns:
        The scheme with the chosen bits added to ``layers`` by the names of the weights, and
        ``mixed`` set to None; the same scheme if it has no ``mixed``.

    Raises:
        UsageError: No choice satisfies a limit (the message gives the smallest possible value);
            bits that the scheme or its target does not support; a pattern that matches nothing.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 8),
        ...                           torch.nn.Linear(8, 2))
        >>> x = torch.randn(64, 4)
        >>> task = Task((x, x.argmax(1) % 2), test=(x[:9], x[:9].argmax(1) % 2))
        >>> program = Program.capture(net, x[:1])
        >>> from edgewright.quantization import Quantization, resolve
        >>> mixed = MixedPrecision(size="250 B", weights=(8, 4))
        >>> scheme = choose_precisions(program, task, resolve(Quantization(mixed=mixed)))
        >>> [precision.weights for precision in scheme.layers.values() if precision]
        [8, 4, 8]
    """
    mixed = scheme.mixed
    if mixed is None:
        return scheme
    folded = fold_batch_norm(program)
    layers = _layers(folded, scheme, mixed)
    times = {} if mixed.latency is None else measure_precisions(folded, layers, timer=timer)
    tried = {name: layer.precisions for name, layer in layers.items() if len(layer.precisions) > 1}
    rises = measure_sensitivities(folded, task, scheme, tried, mixed, seed)
    options = {name: [layer.option(precision, rises.get(name, {}).get(precision, 0.0),
                                   times.get(name)) for precision in layer.precisions]
               for name, layer in layers.items()}
    other_bytes = _rest_bytes(folded, layers)
    options[_OTHER_TENSORS] = [PrecisionOption(None, None, 0.0, size_bytes=other_bytes)]
    chosen = allocate_precisions(options, _limits(layers, mixed, times))
    return replace(scheme, mixed=None, layers={**scheme.layers, **{
        name: Precision(weights=chosen[name].weights, activations=chosen[name].activations)
        for name, layer in layers.items() if not layer.is_named}})


@dataclass(frozen=True)
class _Layer:
    """The quantities that determine a layer's cost, and its candidate precisions.

    Attributes:
        precisions: The candidates, at least one.
        is_named: Whether ``scheme.layers`` sets the bits.
        entries: Number of entries of the weight.
        scales: Number of scales of the weight.
        bias_entries: Number of entries of all biases that its calls read.
        macs: Multiply-accumulates of all its calls.
        read_bits: Bits of the inputs, if the precision does not determine them.
    """

    precisions: tuple[Precision, ...]
    is_named: bool
    entries: int
    scales: int
    bias_entries: int
    macs: int
    read_bits: int | None

    def size_bytes(self, bits: int | None) -> float:
        """Size of the packed weights, the scales and the biases."""
        beside = _FLOAT_BYTES * self.bias_entries
        if bits is None:
            return _FLOAT_BYTES * self.entries + beside
        return math.ceil(self.entries * bits / 8) + _FLOAT_BYTES * self.scales + beside

    def option(self, precision: Precision, loss: float, times: PrecisionTimes | None,
               ) -> PrecisionOption:
        """The cost of a precision."""
        stored, read = precision.weights, self.read_bits or precision.activations
        latency_ms = 0.0
        if times is not None:
            latency_ms = times.float_ms if stored is None or read is None else times.int8_ms
        return PrecisionOption(
            stored, precision.activations, loss, size_bytes=self.size_bytes(stored),
            bit_ops=float(self.macs * (stored or FLOAT_BITS) * (read or FLOAT_BITS)),
            latency_ms=latency_ms)


def _layers(program: Program, scheme: Scheme, mixed: MixedPrecision) -> dict[str, _Layer]:
    """All layers that the scheme quantizes or names, by the name of the weight."""
    tensors = stored_tensors(program.graph_module)
    patterns = match_tensors(tensors, scheme.layers, option="layers")
    nodes = {node.name: node for node in program.calls()}
    least = place(program, scheme.with_bits(1, 1))
    found = {}
    for point in least.weights:
        if point.tensor in patterns:
            precisions = tuple(filter(None, [scheme.layers[patterns[point.tensor]]]))
        else:  # place() used 1 bit everywhere; only the first and last layers have more
            precisions = tuple(dict.fromkeys(precision.at_least(point.grid.bits)
                                             for precision in mixed.candidates()))
        found[point.tensor] = _Layer(
            precisions, point.tensor in patterns, tensors[point.tensor].numel(),
            math.prod(point.shape), sum(tensors[name].numel() for name in _biases(program, point)),
            sum(count_macs(nodes[call]) for call in point.layers),
            FLOAT_BITS if scheme.activation_mode == "weight_only" else None)
    return found


def _biases(program: Program, point: WeightPoint) -> set[str]:
    return {bias for node in program.calls()
            if node.name in point.layers and (bias := stored_bias(node)) is not None}


def _rest_bytes(program: Program, layers: Mapping[str, _Layer]) -> float:
    """Size of everything stored except the layers' weights and biases."""
    stored = stored_tensors(program.graph_module).values()
    return (sum(tensor.numel() * tensor.element_size() for tensor in stored)
            - sum(layer.size_bytes(None) for layer in layers.values()))


def _limits(layers: Mapping[str, _Layer], mixed: MixedPrecision,
            times: Mapping[str, PrecisionTimes]) -> PrecisionLimits:
    """The limits in the units of the options."""
    macs = sum(layer.macs for layer in layers.values())
    floating = sum(time.float_ms for time in times.values())
    return PrecisionLimits(
        size_bytes=mixed.size,
        bit_ops=None if mixed.bit_ops is None else mixed.bit_ops * macs * 8 * 8,
        latency_ms=None if mixed.latency is None else mixed.latency * floating)
