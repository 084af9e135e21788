"""Mixed precision against uniform bits: ResNet-20 on CIFAR-10, post-training, on the runtime.

The limit is the bytes of weights of 5 bits each, or the bit operations of these, or a latency of 75
% of floating point, with some layers left in it; activations have 8 bits. The bits of each layer
are chosen on the training split alone; the test split is only measured on. The row "sensitivity"
holds the predicted rise of the loss by layer and bits. Each row is stored once measured and not
measured again.

Example:
    python -m benchmarks.quantization.mixed_precision --data DIR \
        --weights resnet20-cifar10.safetensors
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import edgewright as ew
from benchmarks.common.commands import running_command
from benchmarks.common.paths import RESNETS, RESULTS
from edgewright.core import write_atomically
from edgewright.exporters import to_onnx
from edgewright.graph import FLOAT_BITS, stored_tensors
from edgewright.measure import machine
from edgewright.program import fold_batch_norm
from edgewright.quantization import Precision, resolve
from edgewright.quantization.mixed._choose_precisions import choose_precisions
from edgewright.quantization.mixed._sensitivity import measure_sensitivities
from edgewright.quantization.scheme._precision import MixedPrecision
from edgewright.runtime import OnnxEngine
from edgewright.task import load_model, load_task

STORED: Final = RESULTS / "mixed_precision.json"
AVERAGE: Final = 5
UNIFORM: Final[dict[str, dict[str, Any]]] = {"uniform-8": {}, "uniform-4": {"weights": 4}}
MIXED: Final[dict[str, dict[str, Any]]] = {
    "mixed-hessian": {"size": "average", "method": "hessian"},
    "mixed-loss": {"size": "average"},
    "mixed-bit-operations": {"bit_ops": AVERAGE / 8},
    "mixed-latency": {"latency": 0.75, "weights": (None, 8)},
}
SENSITIVITY: Final = "sensitivity"


def main() -> None:
    """Measure the rows that are missing, store each, print all."""
    arguments = parse()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    task = load_task(f"cifar10:{arguments.data}", normalize="imagenet", seed=arguments.seed)
    model = load_model(f"{RESNETS}:resnet20", arguments.weights)
    program = ew.Program.capture(model, task.train.example(1))
    stored: dict[str, Any] = (json.loads(STORED.read_text()) if STORED.is_file() else {})
    rows = stored.get("rows", {})
    for name in (name for name in (*UNIFORM, SENSITIVITY, *MIXED)
                 if name not in rows and fnmatchcase(name, arguments.only)):
        row = sensitivity if name == SENSITIVITY else partial(measure, name=name)
        rows[name] = row(program, task, seed=arguments.seed)
        stored = {"command": running_command(), "seed": arguments.seed,
                  "machine": machine(), "rows": rows,
                  "versions": {"python": sys.version.split()[0], "torch": torch.__version__}}
        write_atomically(STORED, json.dumps(stored, indent=1).encode() + b"\n")
        print(name, json.dumps(rows[name]), flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with CIFAR-10")
    parser.add_argument("--weights", type=Path, required=True, help="trained weights")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="such as 'uniform-*'")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def sensitivity(program: ew.Program, task: ew.Task, *, seed: int) -> dict[str, Any]:
    """By how much the loss rises with one layer at so many bits, everything else as it was."""
    mixed = MixedPrecision(size=size_limit(program))
    precisions = [Precision(weights=bits) for bits in mixed.weights]
    rises = measure_sensitivities(fold_batch_norm(program), task, resolve(ew.Quantization()),
                          dict.fromkeys(weights_of(program), precisions), mixed, seed)
    return {layer: {str(precision.weights): rise for precision, rise in by_bits.items()}
            for layer, by_bits in rises.items()}


def measure(program: ew.Program, task: ew.Task, *, name: str, seed: int) -> dict[str, Any]:
    """A row: which layer has how many bits, and what its file scores on the runtime."""
    config = ew.Quantization(**UNIFORM.get(name, {}))
    if name in MIXED:
        limits = {key: size_limit(program) if value == "average" else value
                  for key, value in MIXED[name].items()}
        mixed = MixedPrecision.model_validate(limits)
        scheme = choose_precisions(program, task, resolve(config.replace(mixed=mixed)), seed)
        config = config.replace(layers=dict(scheme.layers))
    quantized = ew.quantize(program, task, config, seed=seed)
    engine = OnnxEngine(to_onnx(quantized))
    hits = [engine.run(tuple(value.numpy() for value in batch.inputs))[0].argmax(1)
            == batch.targets.numpy() for batch in task.test.batches(250)]
    bits = {layer: precision.weights for layer, precision in config.layers.items()
            if isinstance(precision, Precision)}
    return {"test_accuracy": float(np.concatenate(hits).mean()), "bits": bits,
            "average_bits": average(program, bits, config)}


def size_limit(program: ew.Program) -> float:
    """Bytes with `AVERAGE` bits per weight, and a scale and a bias for each output channel."""
    weights = weights_of(program).values()
    return sum(shape.numel() * AVERAGE / 8 + 8 * shape[0] for shape in weights)


def average(program: ew.Program, bits: dict[str, Any], config: ew.Quantization) -> float:
    """Bits a weight; the layers at either end have ``config.first_last_bits`` at least."""
    shapes = weights_of(program)
    ends = {next(iter(shapes)), next(reversed(shapes))}
    usual = {name: max(config.weights, (config.first_last_bits or 0) * (name in ends))
             for name in shapes}
    had = {name: bits.get(name, usual[name]) or FLOAT_BITS for name in shapes}
    entries = sum(shape.numel() for shape in shapes.values())
    return sum(had[name] * shape.numel() for name, shape in shapes.items()) / entries


def weights_of(program: ew.Program) -> dict[str, torch.Size]:
    """The shapes of the layers' weights, in order."""
    return {name: tensor.shape for name, tensor in stored_tensors(program.graph_module).items()
            if tensor.ndim > 1}


if __name__ == "__main__":
    main()
