"""Networks of integers that this machine's compiler built, beside ONNX Runtime's int8.

Every row is one network, quantized once for C and once for ONNX Runtime: latency of a call with one
sample through each engine, floats in and floats out, in turn on one core (medians, ratios within
one run), and on how many test samples both predict the same class. Rows with exits measure what
exits cost that no sample takes: the same network with the tests of its exits, and without exits.

ResNet-8 and ResNet-20 have published weights; DS-CNN (MLPerf Tiny's keyword spotting) is drawn at
random, so that its answers mean nothing and only its latency is reported.

Example:
    python -m benchmarks.runtime.compiled --data DIR --weights DIR
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import edgewright as ew
from benchmarks.common.arguments import row_arguments
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import keep, provenance, stored
from benchmarks.search.resnet8 import BYTES, load_resnet8
from edgewright.core import ExitRule
from edgewright.exporters import to_integer_network, to_onnx
from edgewright.integers.c import CompiledNetwork
from edgewright.measure import compare_latency, pin_to_core
from edgewright.program import Program
from edgewright.runtime import CompiledEngine, OnnxEngine
from edgewright.task import Task, load_model, load_task

STORED: Final = RESULTS / "compiled.json"
_PACKAGES: Final = ("edgewright", "onnxruntime", "numpy")
_SAMPLES: Final = 100
_COMPARED: Final = 1000
_ROUNDS: Final = 60
_IN_A_ROW: Final = 10
_QUIETEST: Final = 0.5

Made = tuple[nn.Module, Task]


class DsCnn(nn.Module):
    """Depthwise separable convolutions over 49 frames of 10 coefficients, (N, 1, 49, 10)."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, (10, 4), 2, (4, 1), bias=False),
                                  nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.Sequential(*(self._block(channels) for _ in range(4)))
        self.fc = nn.Linear(channels, 12)

    @staticmethod
    def _block(channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Map coefficients to logits (N, 12)."""
        found: Tensor = self.fc(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1))
        return found


def main() -> None:
    """Measure the rows that are not stored yet."""
    parser = row_arguments(__doc__, STORED)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    makers = _makers(given.data, given.weights, given.seed)
    todo = [name for name in makers if name not in stored(given.results)
            and fnmatchcase(name, given.only)]
    if given.list:
        print(*todo, sep="\n")
        return
    for name in todo:
        torch.manual_seed(given.seed)
        model, task = makers[name]()
        program = Program.capture(model.eval(), task.train.example(2))
        measure = _measure_exits if name.endswith("exits") else _measure
        keep(given.results, name, provenance(_PACKAGES, seed=given.seed) | measure(program, task))


def _makers(data: str, weights: Path, seed: int) -> dict[str, Callable[[], Made]]:
    def resnet8() -> Made:
        return load_resnet8(weights), load_task(f"cifar10:{data}", normalize=BYTES, seed=seed)

    def resnet20() -> Made:
        return (load_model(f"{RESNETS}:resnet20", weights / "resnet20-cifar10.safetensors"),
                load_task(f"cifar10:{data}", normalize="imagenet", seed=seed))

    def ds_cnn() -> Made:
        x, y = torch.randn(600, 1, 49, 10), torch.arange(600) % 12
        parts = [TensorDataset(x[begin:begin + 200], y[begin:begin + 200])
                 for begin in (0, 200, 400)]
        return DsCnn(), Task(parts[0], parts[1], parts[2])

    return {"resnet8": resnet8, "ds-cnn": ds_cnn, "resnet20": resnet20, "resnet20 with exits":
            resnet20}


def _measure(program: Program, task: Task) -> dict[str, Any]:
    """The compiled network beside ONNX Runtime."""
    network = to_integer_network(ew.quantize(program, task, ew.Quantization(target="c")))
    engines = {"c": CompiledEngine(network), "onnxruntime": OnnxEngine(to_onnx(
        ew.quantize(program, task, ew.Quantization())))}
    x = task.test.example(min(_COMPARED, len(task.test)))[0].numpy()
    latency = _time({name: _one_by_one(engine.run, x) for name, engine in engines.items()})
    classes = [np.concatenate([engine.run((one[None],))[0] for one in x]).argmax(1)
               for engine in engines.values()]
    return {"macs": network.macs, **latency,
            "ratio": round(latency["c_ms"] / latency["onnxruntime_ms"], 3),
            "same_class": round(float((classes[0] == classes[1]).mean()), 4), "samples": len(x)}


def _measure_exits(program: Program, task: Task) -> dict[str, Any]:
    """The network with exits that no sample takes, beside the one without exits."""
    bare, dynamic = (to_integer_network(ew.quantize(one, task, ew.Quantization(target="c")), rules)
                     for one, rules in _with_and_without_exits(program, task))
    x = task.test.example(_SAMPLES)[0].numpy()
    compiled = {"bare": CompiledNetwork(bare), "exits": CompiledNetwork(dynamic)}
    latency = _time({name: _one_by_one(one.run_values, x) for name, one in compiled.items()})
    return {"exits": len(dynamic.structure.exits), **latency,
            "overhead": round(latency["exits_ms"] / latency["bare_ms"] - 1, 4),
            "heads_macs_share": round(dynamic.macs / bare.macs - 1, 4)}


def _with_and_without_exits(program: Program, task: Task,
                            ) -> list[tuple[Program, tuple[ExitRule, ...]]]:
    dynamic = ew.add_exits(program, task, ew.EarlyExits(training=None))
    never = ExitRule(threshold=1.5)  # tested, but no probability reaches it
    return [(program, ()), (dynamic, (never,) * dynamic.exits)]


def _one_by_one(run: Callable[[tuple[Any, ...]], object], x: Any) -> Callable[[int], object]:
    return lambda index: run((x[index % _SAMPLES][None],))


def _time(candidates: dict[str, Callable[[int], object]]) -> dict[str, float]:
    with pin_to_core():
        found = compare_latency(candidates, rounds=_ROUNDS, in_a_row=_IN_A_ROW,
                                quietest=_QUIETEST)
    return {f"{name}_ms": round(latency.median_ms, 4) for name, latency in found.items()}


if __name__ == "__main__":
    main()
