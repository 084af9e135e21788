"""Peak memory of calibrating ResNet-20 on 100 and on 10,000 samples of CIFAR-10.

Each row is a fresh process: data and model are loaded, the samples read once, the process's peak
is reset (Linux), and the post-training pass runs. What it takes beyond what was there must not
grow with the samples. The allocator gives every large block back at once, so that the peak is of
what is in use, not of what fell apart.

Example:
    python -m benchmarks.quantization.calibration_memory --data DIR --weights DIR
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import torch

import edgewright as ew
from benchmarks.common.commands import child_command, running_command
from benchmarks.common.paths import RESNETS, RESULTS
from edgewright.measure import machine
from edgewright.quantization.calibration import draw_training_inputs
from edgewright.task import load_model, load_task

STORED: Final = RESULTS / "calibration_memory.json"
SAMPLES: Final = (100, 10_000)
SEED: Final = 0
_GROWTH: Final = 1.1  # what the allocator may do to equal needs
_LARGE_BYTES: Final = 128 << 10


def main() -> None:
    """Measure every row in a process of its own, store the table and judge it."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--weights", type=Path, required=True,
                        help="folder of resnet20-cifar10.safetensors")
    parser.add_argument("--ranges", default="mse", choices=("minmax", "percentile", "mse",
                                                            "entropy"))
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)  # a row, in its process
    arguments = parser.parse_args()
    if arguments.only is not None:
        print(json.dumps(measure(arguments, arguments.only)))
        return
    rows = {str(samples): in_fresh_process(samples) for samples in SAMPLES}
    few, many = (rows[str(samples)]["extra_bytes"] for samples in SAMPLES)
    result = {"command": running_command(),
              "ranges": arguments.ranges, "seed": SEED, "machine": machine(),
              "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
              "rows": rows, "growth": round(many / few, 3)}
    STORED.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    assert many <= _GROWTH * few, "memory grows with the samples"


def in_fresh_process(samples: int) -> dict[str, int]:
    """The row for so many samples."""
    done = subprocess.run(child_command(*sys.argv[1:], "--only", str(samples)),
                          check=True, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(_LARGE_BYTES)})
    row: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(arguments: argparse.Namespace, samples: int) -> dict[str, Any]:
    """Resident bytes before the pass, at its peak, and the difference."""
    torch.set_num_threads(1)
    task = load_task(f"cifar10:{arguments.data}", normalize="imagenet", seed=SEED)
    model = load_model(f"{RESNETS}:resnet20",
                       arguments.weights / "resnet20-cifar10.safetensors")
    program = ew.Program.capture(model, task.train.example(2))
    for _ in draw_training_inputs(task, samples, SEED):
        pass
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident_bytes("VmRSS")
    ew.quantize(program, task, ew.Quantization(
        range_estimator=arguments.ranges, calibration_samples=samples), seed=SEED)
    peak = resident_bytes("VmHWM")
    return {"samples": samples, "before_bytes": before, "peak_bytes": peak,
            "extra_bytes": peak - before}


def resident_bytes(field: str) -> int:
    """A field of this process's memory, as the kernel counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


if __name__ == "__main__":
    main()
