"""Whether the simulated program and the file on its runtime agree, target by target.

A model is quantized to post-training int8 by each target's own rules, and both the program (in
torch) and its file (on the target's runtime, one thread) are run on all 10,000 test images of
CIFAR-10. Each row is stored once measured and not measured again; a runtime that is not installed
is named and left out, so that each row can be run where its runtime is::

    pip install 'edgewright[compress,openvino]'       # or executorch, or litert

Example:
    python -m benchmarks.quantization.parity_matrix --data DIR --weights DIR \
        --only 'resnet20-litert'
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import edgewright as ew
from benchmarks.common.accuracy import collect_logits
from benchmarks.common.arguments import row_arguments
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import keep, provenance, stored
from edgewright.errors import MissingExtraError
from edgewright.exporters import ExecuTorchEngine, to_executorch, to_litert, to_onnx
from edgewright.runtime import Engine, LiteRtEngine, OnnxEngine, OpenVinoEngine
from edgewright.task import Split, load_model, load_task

STORED: Final = RESULTS / "parity_matrix.json"
MODELS: Final = ("resnet20", "resnet56")
SAMPLES: Final = 1024  # training images that ranges are taken from
_BATCH: Final = 250
_PACKAGES: Final = ("edgewright", "torch", "onnxruntime", "openvino", "executorch", "litert-torch",
                    "ai-edge-litert", "numpy")

Logits = NDArray[np.float32]
TargetName = Literal["onnxruntime", "openvino", "executorch", "litert"]


class Runtime(NamedTuple):
    """How a target's file is written and run."""

    translate: Callable[[ew.Program], bytes]
    engine: Callable[[bytes], Engine]


RUNTIMES: Final[dict[TargetName, Runtime]] = {
    "onnxruntime": Runtime(to_onnx, OnnxEngine),
    "openvino": Runtime(to_onnx, OpenVinoEngine),
    "executorch": Runtime(to_executorch, ExecuTorchEngine),
    "litert": Runtime(to_litert, LiteRtEngine),
}


def main() -> None:
    """Run the rows that are asked for and missing, then print the table."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", category=FutureWarning)
    if arguments.list:
        print(*missing(arguments), sep="\n")
        return
    for key, row in rows(arguments):
        keep(arguments.results, key, row)
    print(table(stored(arguments.results)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = row_arguments(__doc__, STORED)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def missing(arguments: argparse.Namespace) -> dict[str, tuple[str, TargetName]]:
    """The rows that are asked for and not there: model and target by their keys."""
    there = stored(arguments.results)
    return {key: (model, target) for model in MODELS for target in RUNTIMES
            if (key := f"{model}-{target}") not in there and fnmatchcase(key, arguments.only)}


def rows(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row that is missing and can be run here."""
    for key, (model, target) in missing(arguments).items():
        try:
            yield key, run(model, target, arguments) | provenance(
                _PACKAGES, seed=arguments.seed, threads=arguments.threads)
        except MissingExtraError as error:
            print(f"{key} is left out: {error}", file=sys.stderr)


def run(model: str, target: TargetName, arguments: argparse.Namespace) -> dict[str, Any]:
    """Quantize a model for a target, and compare its file with the simulation."""
    task = load_task(f"cifar10:{arguments.data}", normalize="imagenet", seed=arguments.seed)
    module = load_model(f"{RESNETS}:{model}",
                        arguments.weights / f"{model}-cifar10.safetensors").eval()
    program = ew.Program.capture(module, task.train.example(1))
    config = ew.Quantization(target=target, calibration_samples=SAMPLES)
    quantized = ew.quantize(program, task, config, seed=arguments.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        content = RUNTIMES[target].translate(quantized)
    engine = RUNTIMES[target].engine(content)
    want = collect_logits(quantized.module(), task.test, _BATCH)
    have = _logits(engine, task.test)
    return {
        "relative_error": float(np.linalg.norm((want - have).astype(np.float64))
                                / np.linalg.norm(want)),
        "agreement": float((want.argmax(1) == have.argmax(1)).mean()),
        "accuracy_simulated": _accuracy(want, task.test),
        "accuracy": _accuracy(have, task.test),
        "samples": len(want),
        "file_bytes": len(content),
        "runtime": engine.runtime,
        "outside_the_delegate": [str(warning.message) for warning in caught
                                 if "XNNPACK" in str(warning.message)],
    }


def _logits(engine: Engine, split: Split) -> Logits:
    return np.concatenate([engine.run(tuple(value.numpy() for value in batch.inputs))[0]
                           for batch in split.batches(_BATCH)])


def _accuracy(logits: Logits, split: Split) -> float:
    targets = torch.cat([batch.targets for batch in split.batches(_BATCH)]).numpy()
    return float((logits.argmax(1) == targets).mean())


def table(found: dict[str, dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'row':24}{'rel. error':>12}{'agreement':>11}{'simulated':>11}{'on runtime':>12}"
             f"{'bytes':>11}"]
    lines += [f"{key:24}{row['relative_error']:12.2e}{100 * row['agreement']:9.2f} %"
              f"{100 * row['accuracy_simulated']:9.2f} %{100 * row['accuracy']:10.2f} %"
              f"{row['file_bytes']:11,}"
              for key, row in found.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
