"""Predict a program's stored bits and costs under a scheme, before quantization."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from edgewright.graph import FLOAT_BITS, stored_tensors
from edgewright.pipeline.stages._plan import StoredBits
from edgewright.program import Costs, Program
from edgewright.quantization import Quantization, Scheme, place, resolve

_INTEGER_BITS: Final = 8  # bits that engines compute in, however few are stored


def predict_stored_bits(program: Program, scheme: Quantization | None) -> StoredBits:
    """The bits per entry of a program's tensors in the file, including the weights' scales.

    If the scheme chooses the bits per layer, the result has the largest and smallest choice for
    every layer.

    Args:
        program: A floating-point program.
        scheme: A scheme whose patterns match the program; None stores everything in floating
            point.
    """
    if scheme is None:
        return StoredBits()
    resolved = resolve(scheme)
    mixed = resolved.mixed
    if mixed is None:
        bits = _bits(program, resolved)
        return StoredBits(bits, bits)
    choice = [bits for bits in mixed.weights if bits is not None]
    most, fewest = (_bits(program, resolved.with_bits(bits))
                    for bits in (max(choice), min(choice)))
    return StoredBits(most if None not in mixed.weights else {}, fewest,
                      math.inf if mixed.size is None else mixed.size)


def predict_computed_costs(program: Program, costs: Costs, scheme: Quantization | None,
                           stored: StoredBits) -> Costs:
    """A floating-point program's costs, with the layers to be quantized counted as integers.

    The inputs and outputs of such layers take one byte per element instead of four.
    """
    if scheme is None or scheme.activations is None:
        return costs
    share = FLOAT_BITS // _INTEGER_BITS
    computed = stored.most.keys() & {
        point.tensor for point in place(program, resolve(scheme)).weights if point.layers}
    return replace(costs, layers=tuple(
        replace(layer, bits=_INTEGER_BITS, traffic_bytes=layer.traffic_bytes // share)
        if layer.weight in computed else layer for layer in costs.layers))


def _bits(program: Program, scheme: Scheme) -> dict[str, float]:
    """Bits per entry of every quantized weight; each channel has at least one scale."""
    tensors = stored_tensors(program.graph_module)
    found = {}
    for point in place(program, scheme).weights:
        weight = tensors[point.tensor]
        scales = math.prod(point.shape or weight.shape[:1])
        found[point.tensor] = point.grid.bits + FLOAT_BITS * scales / weight.numel()
    return found
