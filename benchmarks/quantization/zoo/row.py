"""One model of the quantization zoo: quantized, exported, and compared with ONNX Runtime."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import edgewright as ew
from benchmarks.quantization.unfused_operators import UnfusedEngine, count_operators, fused_share
from benchmarks.quantization.zoo.models import Inputs, build, noise
from benchmarks.quantization.zoo.per_operator import Nudged, compare_steps
from edgewright.exporters import to_onnx
from edgewright.quantization import place, resolve
from edgewright.runtime import OnnxEngine

_CALIBRATION: Final = 64
_BATCH: Final = 8
_UNFUSED: Final = 16  # samples; operator by operator is slow

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class ZooRow:
    """How far a model came; what was not reached is None.

    Attributes:
        parameters: Of the model.
        float_bytes: Of the file in floating point; ``bytes`` of the quantized one.
        quantize_seconds: Calibration and conversion.
        layers: Calls that multiply.
        integer_layers: Those of them whose operands are quantized.
        in_float: The others, by the reason why.
        operators: How often each occurs in the graph that ONNX Runtime executes.
        fused_share: Share of its layers, by count, that are integer operators.
        relative_error: Of the file's outputs to the program's, over all samples.
        agreement: Share of the samples with the same top class.
        nudged_error: As ``relative_error``, of the program against itself with every number it
            computes moved to the next float, up or down: what any other order of summation does.
        nudged_agreement: As ``agreement``, of these two.
        integers_off: Share of the integers that ONNX Runtime's operators compute otherwise than
            the program's, each from the program's integers; None where they cannot be paired.
        farthest_integer: Steps between the two, at most.
        single_operator_error: As ``relative_error``, with the file run operator by operator:
            what is left is the translation's, the rest the integer kernels' rounding.
        classes: Different top classes among the samples; with one, agreement says little.
        float_error: As ``relative_error``, of the file against the model in floating point.
        failure: Why the next stage was not reached.
    """

    parameters: int | None = None
    float_bytes: int | None = None
    quantize_seconds: float | None = None
    layers: int | None = None
    integer_layers: int | None = None
    in_float: dict[str, list[str]] = field(default_factory=dict)
    bytes: int | None = None
    operators: dict[str, int] = field(default_factory=dict)
    fused_share: float | None = None
    relative_error: float | None = None
    agreement: float | None = None
    nudged_error: float | None = None
    nudged_agreement: float | None = None
    integers_off: float | None = None
    farthest_integer: int | None = None
    single_operator_error: float | None = None
    classes: int | None = None
    float_error: float | None = None
    failure: str | None = None


def run_model(name: str, samples: int, seed: int) -> None:
    """Take one model through, and print a row after every step; the last line counts."""
    for row in _rows(name, samples, seed):
        print(json.dumps(asdict(row)), flush=True)


def _rows(name: str, samples: int, seed: int) -> Iterator[ZooRow]:
    module, example = build(name, seed)
    program = ew.Program.capture(module, example)
    config = ew.Quantization()
    row = ZooRow(parameters=program.costs().parameters)
    yield row
    since = time.perf_counter()
    quantized = ew.quantize(program, _task(program, seed), config, seed=seed)
    row = replace(row, quantize_seconds=round(time.perf_counter() - since, 1),
                  float_bytes=len(to_onnx(program)), **_layers(program, quantized, config))
    yield row
    file = to_onnx(quantized)
    operators = count_operators(file)
    row = replace(row, bytes=len(file), operators=operators, fused_share=fused_share(operators))
    yield row
    inputs = _inputs(program, samples, seed + 1)
    steps = compare_steps(quantized, file, tuple(leaf[:_BATCH] for leaf in inputs))
    if steps is not None:
        row = replace(row, integers_off=steps.share, farthest_integer=steps.farthest)
    yield row
    yield replace(row, **_compare(program, quantized, file, inputs, seed))


def _inputs(program: ew.Program, samples: int, seed: int) -> Inputs:
    shapes = tuple(tuple(leaf.shape[1:]) for leaf in program.example_inputs)
    return noise(shapes, samples, torch.Generator().manual_seed(seed))


def _task(program: ew.Program, seed: int) -> ew.Task:
    """Noise; calibration asks for no labels."""
    inputs, labels = _inputs(program, _CALIBRATION, seed), torch.zeros(_CALIBRATION).long()
    few = tuple(leaf[:2] for leaf in inputs)
    return ew.Task((inputs, labels), (few, labels[:2]), (tuple(leaf[2:4] for leaf in inputs),
                                                         labels[2:4]))


def _layers(program: ew.Program, quantized: ew.Program, config: ew.Quantization) -> dict[str, Any]:
    """How many layers compute on integers, and why the others do not."""
    kept = dict(place(program, resolve(config)).skip_reasons)
    layers = quantized.costs().layers
    for layer in layers:
        if layer.bits == 32:
            name = layer.weight or layer.name
            kept.setdefault(name, f"{layer.op}: left in floating point" if layer.weight else
                            f"{layer.op} multiplies values, not stored weights")
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reason in kept.items():
        by_reason[reason].append(name)
    integer_layers = sum(layer.bits < 32 for layer in layers)
    return {"layers": integer_layers + len(kept), "integer_layers": integer_layers,
            "in_float": dict(by_reason)}


def _compare(program: ew.Program, quantized: ew.Program, file: bytes,
             inputs: Inputs, seed: int) -> dict[str, Any]:
    module, original = quantized.module(), program.module()
    have = _outputs(_on(OnnxEngine(file)), inputs)
    with torch.inference_mode():
        want = _outputs(lambda *batch: module(*batch).numpy(), inputs)
        exact = _outputs(lambda *batch: original(*batch).numpy(), inputs)
        wobble = Nudged(quantized, seed)
        nudged = _outputs(lambda *batch: wobble.run(*batch).numpy(), inputs)
    unfused = _outputs(_on(UnfusedEngine(file)), tuple(leaf[:_UNFUSED] for leaf in inputs))
    return {"relative_error": _error(want, have),
            "agreement": _agreement(want, have),
            "nudged_error": _error(want, nudged),
            "nudged_agreement": _agreement(want, nudged),
            "classes": len(np.unique(want.argmax(axis=1))),
            "float_error": _error(exact, have),
            "single_operator_error": _error(want[:_UNFUSED], unfused)}


def _on(engine: OnnxEngine | UnfusedEngine) -> Callable[..., Logits]:
    def run(*batch: Tensor) -> Logits:
        found: Logits = engine.run(tuple(leaf.numpy() for leaf in batch))[0]
        return found

    return run


def _outputs(run: Callable[..., Logits], inputs: Inputs) -> Logits:
    batches = zip(*(torch.split(leaf, _BATCH) for leaf in inputs), strict=True)
    return np.concatenate([run(*batch) for batch in batches])


def _agreement(want: Logits, have: Logits) -> float:
    return float((want.argmax(axis=1) == have.argmax(axis=1)).mean())


def _error(want: Logits, have: Logits) -> float:
    return float(np.linalg.norm((want - have).astype(np.float64)) / np.linalg.norm(want))
