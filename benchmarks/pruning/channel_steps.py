"""What int8 latency pruned channel counts buy: ResNet-20, 30 % fewer MACs, in steps of 4, 8, 16.

Example:
    python -m benchmarks.pruning.channel_steps
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import edgewright as ew
from benchmarks.common.commands import running_command
from benchmarks.common.paths import RESNETS, RESULTS
from edgewright.exporters import to_onnx
from edgewright.measure import compare_latency, machine, pin_to_core
from edgewright.runtime import OnnxEngine
from edgewright.task import load_model

SEED, ROUNDS, RATIO = 0, 300, 0.3


def main() -> None:
    """Prune random weights, quantize, run all in turn on one core; print and store ratios."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS / "channel_steps.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    torch.manual_seed(SEED)
    images, labels = torch.randn(64, 3, 32, 32), torch.arange(64) % 10
    task = ew.Task((images, labels), test=(images[:20], labels[:20]))
    model = load_model(f"{RESNETS}:resnet20")
    whole = ew.Program.capture(model, images[:2])
    programs = {"whole": whole}
    for step in (4, 8, 16):
        programs[f"step {step}"] = ew.prune(whole, None, ew.ChannelPruning(
            criterion="magnitude", ratio=RATIO, allocation="global", least_width=0, round_to=step))
    engines = {name: OnnxEngine(to_onnx(ew.quantize(program, task, ew.Quantization(
        calibration_samples=32)))) for name, program in programs.items()}
    inputs = (images[:1].numpy(),)

    def run(engine: OnnxEngine) -> Callable[[int], Any]:
        return lambda _: engine.run(inputs)

    with pin_to_core():
        found = compare_latency({name: run(engine) for name, engine in engines.items()},
                                rounds=ROUNDS, warmup=30)
    rows = {name: {
        "macs_ratio": round(programs[name].costs().macs / whole.costs().macs, 3),
        "latency_ratio": round(latency.median_ms / found["whole"].median_ms, 3),
        "channels": [layer.channels for layer in programs[name].costs().layers],
    } for name, latency in found.items()}
    record = {"command": running_command(), "seed": SEED,
              "machine": machine(), "runtime": engines["whole"].runtime, "rows": rows}
    arguments.results.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
