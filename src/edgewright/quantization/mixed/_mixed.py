"""Mixed precision: the bits of each layer, from sensitivities and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from edgewright.allocation import PrecisionLimits, PrecisionOption, allocate_precisions
from edgewright.graph import FLOAT_BITS, count_macs, match_tensors, stored_tensors
from edgewright.program import Program, fold_batch_norm
from edgewright.quantization.mixed._sensitivity import sensitivities
from edgewright.quantization.placement import WeightPoint, place, stored_bias
from edgewright.quantization.scheme import MixedPrecision, Precision, Scheme
from edgewright.task import Task
from edgewright.timing import PrecisionTimer, PrecisionTimes, measure_precisions

_FLOAT_BYTES: Final = 4
_REST: Final = ""  # the name, among the layers, of what is no layer


def choose_precisions(program: Program, task: Task, scheme: Scheme, seed: int = 0, *,
                      timer: PrecisionTimer | None = None) -> Scheme:
    """The bits of each layer with the least predicted rise of the loss under every limit.

    Layers that ``scheme.layers`` names keep its bits, and those next to inputs and outputs have at
    least ``scheme.first_last_bits``; both count for the limits. What stays in floating point anyway
    counts for the size alone.

    Args:
        program: In floating point.
        task: Its training split is looked at, no other.
        scheme: Its ``mixed`` has the limits and the bits to choose from.
        seed: Of the samples.
        timer: Takes a layer's times for a limit on latency; ONNX Runtime if left out.

    Returns:
        The scheme with its own ``layers``, then the chosen ones by the names of the weights, and
        nothing left to choose; the one given where it has no ``mixed``.

    Raises:
        UsageError: A limit that no choice holds, with the smallest that can be reached; bits that
            the scheme or its target has no use for; a pattern that matches nothing.

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
    rises = sensitivities(folded, task, scheme, tried, mixed, seed)
    options = {name: [layer.option(precision, rises.get(name, {}).get(precision, 0.0),
                                   times.get(name)) for precision in layer.precisions]
               for name, layer in layers.items()}
    options[_REST] = [PrecisionOption(None, None, 0.0, size_bytes=_rest_bytes(folded, layers))]
    chosen = allocate_precisions(options, _limits(layers, mixed, times))
    return replace(scheme, mixed=None, layers={**scheme.layers, **{
        name: Precision(weights=chosen[name].weights, activations=chosen[name].activations)
        for name, layer in layers.items() if not layer.is_named}})


@dataclass(frozen=True)
class _Layer:
    """What a layer's cost depends on, and the precisions it may have.

    Attributes:
        precisions: One at least.
        is_named: Whether the scheme has bits for it of its own.
        entries: Of its weight.
        scales: That its weight has.
        bias_entries: Of all biases that its calls read.
        macs: Multiply-accumulates of all its calls.
        read_bits: Of what it reads, where that is not the precision's to say.
    """

    precisions: tuple[Precision, ...]
    is_named: bool
    entries: int
    scales: int
    bias_entries: int
    macs: int
    read_bits: int | None

    def size_bytes(self, bits: int | None) -> float:
        """Of weights packed to so many bits, scales and biases."""
        beside = _FLOAT_BYTES * self.bias_entries
        if bits is None:
            return _FLOAT_BYTES * self.entries + beside
        return math.ceil(self.entries * bits / 8) + _FLOAT_BYTES * self.scales + beside

    def option(self, precision: Precision, loss: float, times: PrecisionTimes | None,
               ) -> PrecisionOption:
        """What a precision costs."""
        stored, read = precision.weights, self.read_bits or precision.activations
        taken = 0.0
        if times is not None:
            taken = times.float_ms if stored is None or read is None else times.int8_ms
        return PrecisionOption(
            stored, precision.activations, loss, size_bytes=self.size_bytes(stored),
            bit_ops=float(self.macs * (stored or FLOAT_BITS) * (read or FLOAT_BITS)),
            latency_ms=taken)


def _layers(program: Program, scheme: Scheme, mixed: MixedPrecision) -> dict[str, _Layer]:
    """Every layer that the scheme quantises or names, by its weight's name."""
    tensors = stored_tensors(program.graph_module)
    patterns = match_tensors(tensors, scheme.layers, option="layers")
    nodes = {node.name: node for node in program.calls()}
    least = place(program, scheme.with_bits(1, 1))
    found = {}
    for point in least.weights:
        if point.tensor in patterns:
            precisions = tuple(filter(None, [scheme.layers[patterns[point.tensor]]]))
        else:  # with 1 bit everywhere, only the ends have more
            precisions = tuple(dict.fromkeys(precision.at_least(point.grid.bits)
                                             for precision in mixed.candidates()))
        found[point.tensor] = _Layer(
            precisions, point.tensor in patterns, tensors[point.tensor].numel(),
            math.prod(point.shape), sum(tensors[name].numel() for name in _biases(program, point)),
            sum(count_macs(nodes[call]) for call in point.layers),
            FLOAT_BITS if scheme.mode == "weight_only" else None)
    return found


def _biases(program: Program, point: WeightPoint) -> set[str]:
    return {bias for node in program.calls()
            if node.name in point.layers and (bias := stored_bias(node)) is not None}


def _rest_bytes(program: Program, layers: Mapping[str, _Layer]) -> float:
    """Of everything stored but the layers' weights and biases."""
    stored = stored_tensors(program.graph_module).values()
    return (sum(tensor.numel() * tensor.element_size() for tensor in stored)
            - sum(layer.size_bytes(None) for layer in layers.values()))


def _limits(layers: Mapping[str, _Layer], mixed: MixedPrecision,
            times: Mapping[str, PrecisionTimes]) -> PrecisionLimits:
    """In the units of the options."""
    macs = sum(layer.macs for layer in layers.values())
    floating = sum(time.float_ms for time in times.values())
    return PrecisionLimits(
        size_bytes=mixed.size,
        bit_ops=None if mixed.bit_ops is None else mixed.bit_ops * macs * 8 * 8,
        latency_ms=None if mixed.latency is None else mixed.latency * floating)
