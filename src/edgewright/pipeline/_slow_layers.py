"""Find the layers that make a quantized file slower than one in floating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from edgewright.core import LayerLatency, Measurement
from edgewright.graph import FLOAT_BITS
from edgewright.program import Program
from edgewright.timing import PrecisionTimer, measure_precisions

_NOISE_FACTOR: Final = 1.01  # smaller differences are within measurement noise


def find_slow_layers(unquantized: Program, quantized: Program,
                     latencies: Mapping[str, Sequence[Measurement]], *,
                     timer: PrecisionTimer | None = None) -> tuple[LayerLatency, ...]:
    """The layers that are slower in 8 bits than in floating point, the largest difference first.

    Layers are timed individually, and only if the quantized file's median latency is above that of
    another file. Even then all layers may be faster, and only operators between them slower.

    Args:
        unquantized: The program before quantization.
        quantized: The program after it.
        latencies: Latencies of the files timed in turn: ``compressed`` and others.
        timer: Measures a layer's latency in both precisions; ONNX Runtime by default.
    """
    medians = {name: measurement.value for name, measurements in latencies.items()
               for measurement in measurements if measurement.name == "latency_ms"}
    if medians["compressed"] <= min(medians.values()):
        return ()
    weights = [layer.weight for layer in quantized.costs().layers
               if layer.weight is not None and layer.bits < FLOAT_BITS]
    times = measure_precisions(unquantized, weights, timer=timer)
    slow = [LayerLatency(name=name.removesuffix(".weight"), float_ms=found.float_ms,
                         int8_ms=found.int8_ms)
            for name, found in times.items() if found.int8_ms > _NOISE_FACTOR * found.float_ms]
    return tuple(sorted(slow, key=lambda layer: layer.float_ms - layer.int8_ms))
