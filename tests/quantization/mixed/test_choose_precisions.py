"""Mixed precision: costs compared with a manual count, choices with exhaustive search."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.quantization import Precision, Quantization, resolve
from edgewright.quantization.mixed import _choose_precisions
from edgewright.quantization.mixed._choose_precisions import choose_precisions
from edgewright.quantization.scheme._precision import MixedPrecision
from edgewright.task import Task
from edgewright.timing import PrecisionTimes

FLOAT = Precision(weights=None, activations=None)


class Net(nn.Module):
    """A norm that folds, layers of three sizes, and one weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Conv2d(4, 4, 3, padding=1)
        self.point = nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 3)
        self.offset = nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = self.body(self.body(x).relu()).relu()
        return self.head(self.point(x).relu().mean((2, 3))) + self.offset[:3]


ENTRIES = {"stem.weight": 72, "body.weight": 144, "point.weight": 32, "head.weight": 24}
CHANNELS = {"stem.weight": 4, "body.weight": 4, "point.weight": 8, "head.weight": 3}
MACS = {"stem.weight": 72 * 36, "body.weight": 2 * 144 * 36, "point.weight": 32 * 36,
        "head.weight": 24}
REST = 4 * 5  # of the offset
SCHEME = Quantization(first_last_bits=None, range_estimator="minmax")


def choose(program: Program, task: Task, config: Any, mixed: Any, **options: Any) -> Any:
    """The bits by layer, as the scheme then has them."""
    return choose_precisions(program, task, resolve(config.replace(mixed=mixed)), **options).layers


def data(count: int, seed: int) -> tuple[Any, ...]:
    x = torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(seed))
    return x, (x.mean((2, 3)).argmax(1))


@pytest.fixture(scope="module")
def task() -> Any:
    return Task(data(60, 0), data(20, 1), data(21, 2))


@pytest.fixture(scope="module")
def program() -> Any:
    torch.manual_seed(0)
    return Program.capture(Net(), torch.zeros(1, 2, 6, 6))


@pytest.fixture
def rises(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the measure_sensitivities say: more for fewer bits, and more for some layers than for others."""
    found = {}

    def made_up(program: Program, task: Task, config: Any, layers: Any, mixed: Any,
                seed: int) -> Any:
        for index, (name, precisions) in enumerate(layers.items()):
            found[name] = {p: 0.0 if p == FLOAT else (index + 1) * 2.0**-p.weights
                           + (index % 2 + 1) * 2.0**-p.activations for p in precisions}
        return found

    monkeypatch.setattr(_choose_precisions, "measure_sensitivities", made_up)
    return found


def size_of(name: str, bits: int) -> Any:
    scales = 0 if bits is None else CHANNELS[name]
    return ENTRIES[name] * (bits or 32) / 8 + 4 * scales + 4 * CHANNELS[name]


def clock(shape: Any, inputs: Any, outputs: Any) -> Any:
    return PrecisionTimes(float(outputs), outputs / (2 if len(shape.extent) else 0.5))


TIMES = {"stem.weight": (4, 2), "body.weight": (8, 4), "point.weight": (8, 4),
         "head.weight": (3, 6)}


def size_bytes(chosen: Any) -> Any:
    return REST + sum(size_of(name, precision.weights) for name, precision in chosen.items())


def bit_ops(chosen: Any) -> Any:
    return sum(MACS[name] * (p.weights or 32) * (p.activations or 32)
               for name, p in chosen.items())


def latency(chosen: Any) -> Any:
    return sum(TIMES[name][p.weights is not None] for name, p in chosen.items())


EIGHT = {name: Precision() for name in ENTRIES}
LIMITS = {
    "size": (MixedPrecision(size=300, weights=(8, 4, 2)), size_bytes, 300),
    "bit_ops": (MixedPrecision(bit_ops=0.45, weights=(8, 4), activations=(8, 4)), bit_ops,
                0.45 * bit_ops(EIGHT)),
    "latency": (MixedPrecision(latency=0.7, weights=(None, 8)), latency,
                0.7 * latency(dict.fromkeys(ENTRIES, FLOAT))),
}


@pytest.mark.parametrize("name", LIMITS)
def test_no_other_choice_within_the_limit_has_a_smaller_predicted_rise(program: Any, task: Any,
                                                                       rises: Any,
                                                                       name: Any) -> Any:
    mixed, cost, limit = LIMITS[name]
    chosen = choose(program, task, SCHEME, mixed, timer=clock)
    assert list(chosen) == list(ENTRIES)
    assert cost(chosen) <= limit * (1 + 1e-9)

    def rise(choice: Any) -> Any:
        return sum(rises[layer][precision] for layer, precision in choice.items())

    possible = [dict(zip(ENTRIES, options, strict=True))
                for options in product(*(rises[layer] for layer in ENTRIES))]
    allowed = [choice for choice in possible if cost(choice) <= limit * (1 + 1e-9)]
    assert 0 < len(allowed) < len(possible)
    assert rise(chosen) == pytest.approx(min(map(rise, allowed)))


def test_several_limits_hold_together(program: Any, task: Any, rises: Any) -> None:
    mixed = MixedPrecision(size=330, bit_ops=0.5, weights=(8, 4, 2), activations=(8, 4))
    chosen = choose(program, task, SCHEME, mixed)
    assert size_bytes(chosen) <= 330
    assert bit_ops(chosen) <= 0.5 * bit_ops(EIGHT)


def test_named_layers_keep_their_bits_and_count_toward_limits(program: Any, task: Any,
                                                              rises: Any) -> None:
    mixed = MixedPrecision(size=460, weights=(8, 4, 2))
    config = SCHEME.replace(layers={"body": Precision(weights=8),
                                                  "head": None})
    chosen = choose(program, task, config, mixed)
    assert list(chosen) == ["body", "head", "stem.weight", "point.weight"]
    assert config.layers.items() <= chosen.items()
    assert list(rises) == ["stem.weight", "point.weight"]
    whole = {"stem.weight": chosen["stem.weight"], "point.weight": chosen["point.weight"],
             "body.weight": Precision(weights=8), "head.weight": FLOAT}
    assert size_bytes(whole) <= 460 < size_bytes(EIGHT | {"head.weight": FLOAT})
    with pytest.raises(UsageError, match="the smallest possible is size_bytes = 426"):
        choose(program, task, config, MixedPrecision(size=400, weights=(8, 4, 2)))


def test_first_and_last_layers_have_at_least_first_last_bits(program: Any, task: Any,
                                                             rises: Any) -> None:
    mixed = MixedPrecision(size=310, weights=(8, 4, 2))
    chosen = choose(program, task, SCHEME.replace(first_last_bits=8), mixed)
    assert chosen["stem.weight"] == Precision()
    assert "stem.weight" not in rises
    assert chosen["body.weight"].weights < 8


def test_activations_count_as_float_unless_static(program: Any, task: Any, rises: Any) -> None:
    config = SCHEME.replace(activations=None)
    chosen = choose(program, task, config, MixedPrecision(bit_ops=2.5, weights=(8, 4)))
    spent = sum(MACS[name] * precision.weights * 32 for name, precision in chosen.items())
    assert spent <= 2.5 * bit_ops(EIGHT)
    assert {precision.weights for precision in chosen.values()} == {8, 4}


def test_same_seed_gives_the_same_choice(program: Any, task: Any) -> None:
    mixed = MixedPrecision(size=300, weights=(8, 4, 2), samples=16)
    once, twice = (choose(program, task, SCHEME, mixed, seed=5) for _ in range(2))
    assert once == twice
    assert size_bytes(once) <= 300


def test_unreachable_limits_report_the_smallest_possible_value(program: Any, task: Any,
                                                               rises: Any) -> None:
    least = size_bytes(dict.fromkeys(ENTRIES, Precision(weights=2)))
    with pytest.raises(UsageError, match=(
            rf"no choice of precisions satisfies size_bytes = 100 \(100 B\): the smallest "
            rf"possible is size_bytes = {least:.0f} \({least:.0f} B\); raise the limit")):
        choose(program, task, SCHEME, MixedPrecision(size=100, weights=(8, 2)))


def test_unsupported_bits_are_rejected_before_measuring(program: Any, task: Any) -> None:
    config = Quantization(target="litert")
    with pytest.raises(UsageError, match="rule litert/activation-bits"):
        choose(program, task, config, MixedPrecision(bit_ops=0.5, activations=(8, 4)))


@pytest.mark.parametrize("change", [{"activations": None}, {"target": "litert"}])
def test_latency_limits_without_static_onnx_runtime_are_rejected(program: Any, task: Any,
                                                                 change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"rule scheme/mixed-latency: mixed=.*latency=0.5.*, "
                                         r"activations=.*, target='\w+'; latency is measured with "
                                         r"static ranges on ONNX Runtime; limit size or bit_ops"):
        choose(program, task, Quantization(**change),
                          MixedPrecision(latency=0.5, weights=(None, 8)))


@pytest.mark.parametrize(("wrong", "message"), [
    ({}, "mixed precision without a limit would give every layer the most bits; set "
         "size='100 kB', bit_ops=0.5 or latency=0.5"),
    ({"size": 9, "weights": (None,)}, r"weights=\(None,\) and activations=\(8,\) leave nothing to "
                                      "choose from"),
    ({"size": 9, "activations": ()}, "leave nothing to choose from"),
    ({"size": "9 furlongs"}, "unknown unit 'furlongs' in '9 furlongs' for a size"),
    ({"bit_ops": 0}, "MixedPrecision: bit_ops: Input should be greater than 0, got 0"),
    ({"size": 9, "weights": (8, 5)}, r"MixedPrecision: weights.1: Input should be 8, 4, 3, 2 or 1"),
])
def test_settings_out_of_range_are_rejected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MixedPrecision(**wrong)
