"""A quantised file that is slower than another has its slow layers named, worst first."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.core import LayerLatency, Measurement
from edgewright.pipeline._slow_layers import find_slow_layers
from edgewright.task import Task
from edgewright.timing import PrecisionTimes


@pytest.fixture(scope="module")
def programs() -> tuple[ew.Program, ew.Program]:
    """Linear layers of 8, 16, 32 and 4 outputs; the third stays in floating point."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 16), nn.ReLU(),
                        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    x, y = torch.randn(64, 6), torch.arange(64) % 4
    program = ew.Program.capture(net, x[:2])
    config = ew.Quantization(calibration_samples=32, layers={"4": None})
    return program, ew.quantize(program, Task((x, y), test=(x[:9], y[:9])), config)


def medians(**values: float) -> dict[str, tuple[Measurement, ...]]:
    return {name: (Measurement(name="mean_latency_ms", value=100 - value, kind="measured"),
                   Measurement(name="latency_ms", value=value, kind="measured"))
            for name, value in values.items()}


def slower_by_outputs(shape: object, inputs: int, outputs: int) -> PrecisionTimes:
    """Of 8 and 16 outputs slower in 8 bits, by as much as there are outputs; else faster."""
    return PrecisionTimes(100, 100 + outputs if outputs in (8, 16) else 50)


@pytest.mark.parametrize("others", [{"original": 3.0, "unquantized": 1.0},
                                    {"original": 1.0, "unquantized": 3.0}])
def test_slow_layers_are_named_worst_first(programs: tuple[ew.Program, ew.Program],
                                           others: dict[str, float]) -> None:
    found = find_slow_layers(*programs, medians(compressed=2.0, **others), timer=slower_by_outputs)
    assert found == (LayerLatency(name="2", float_ms=100, int8_ms=116),
                     LayerLatency(name="0", float_ms=100, int8_ms=108))


def test_nothing_is_timed_for_a_fast_file(programs: tuple[ew.Program, ew.Program]) -> None:
    def never(*_: object) -> PrecisionTimes:
        raise AssertionError

    latencies = medians(compressed=1.0, original=1.0, unquantized=1.5)
    assert find_slow_layers(*programs, latencies, timer=never) == ()


def test_a_slow_file_may_have_no_slow_layer(programs: tuple[ew.Program, ew.Program]) -> None:
    latencies = medians(compressed=2.0, original=1.0, unquantized=1.0)
    assert find_slow_layers(*programs, latencies,
                            timer=lambda *_: PrecisionTimes(2.0, 1.0)) == ()


def test_layers_are_timed_on_the_runtime(programs: tuple[ew.Program, ew.Program]) -> None:
    found = find_slow_layers(*programs, medians(compressed=2.0, original=1.0, unquantized=1.0))
    assert {layer.name for layer in found} <= {"0", "2", "6"}
    assert all(layer.int8_ms > layer.float_ms > 0 for layer in found)
