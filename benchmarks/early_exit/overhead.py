"""What exits cost that no sample takes: staged segments against one file.

ResNet-20 in 8 bits with automatic exits: every sample goes through all segments, all exits are
asked, and none is left. In turn with it run the same network without exits, as one file through the
same `Session` and through ONNX Runtime alone; the segments without a session; and the one file with
`If`, in which ONNX Runtime itself decides. What the heads compute is stated beside.

Example:
    python -m benchmarks.early_exit.overhead --data DIR --weights DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import edgewright as ew
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import provenance
from edgewright.core import Budget
from edgewright.exporters import to_conditional_onnx
from edgewright.measure import compare_latency, pin_to_core
from edgewright.pipeline import Recipe
from edgewright.pipeline._assemble import Assembly
from edgewright.runtime import OnnxEngine, Session
from edgewright.task import load_model, load_task

_PACKAGES: Final = ("edgewright", "onnxruntime", "numpy")


def main() -> None:
    """Measure, print and store."""
    given = parse()
    task = load_task(f"cifar10:{given.data}", normalize="imagenet")
    model = load_model(f"{RESNETS}:resnet20", given.weights / "resnet20-cifar10.safetensors")
    whole = ew.Program.capture(model, task.train.example(2))
    config = ew.EarlyExits(training=None)
    scheme = ew.Quantization(calibration_samples=256)
    single, dynamic = (ew.quantize(one, task, scheme)
                       for one in (whole, ew.add_exits(whole, task, config)))
    assembly = Assembly(task, Budget(), Recipe(name="overhead"), config, 0, "resnet20")
    full, staged = assembly.draft(single), assembly.draft(dynamic)
    nested = OnnxEngine(to_conditional_onnx(dynamic, [None] * dynamic.exits))
    record = {"exits": dynamic.exits,
              "heads_macs_share": round(sum(s.macs for s in staged.manifest.model.segments)
                                        / full.manifest.model.segments[0].macs - 1, 4),
              **timed(full, staged, nested, task, given.rounds),
              **provenance(_PACKAGES, rounds=given.rounds)}
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=RESULTS / "exit_overhead.json")
    return parser.parse_args()


def timed(full: Any, staged: Any, nested: OnnxEngine, task: ew.Task,
          rounds: int) -> dict[str, Any]:
    """Medians of all five, in turn on one core; ratios to the file alone."""
    samples = [batch.inputs[0].numpy() for batch in task.test.sample(200).batches(1)]
    engine = OnnxEngine(next(iter(full.segments.values())))
    engines = [OnnxEngine(content) for content in staged.segments.values()]
    whole, steps = Session(full), Session(staged)

    def segments(index: int) -> None:
        current = samples[index % 200]
        for part in engines:
            current = part.run((current,))[-1]

    with pin_to_core() as core:
        found = compare_latency({
            "file": lambda index: engine.run((samples[index % 200],)),
            "session": lambda index: whole(samples[index % 200]),
            "segments": segments,
            "one_file_with_if": lambda index: nested.run((samples[index % 200],)),
            "staged": lambda index: steps(samples[index % 200])}, rounds=rounds, warmup=50)
    base = found["file"].median_ms
    return {"core": core, **{f"{name}_ms": round(one.median_ms, 4) for name, one in found.items()},
            **{f"{name}_ratio": round(one.median_ms / base, 4) for name, one in found.items()},
            "controller_ratio": round(
                1 + (found["staged"].median_ms - found["segments"].median_ms) / base, 4)}


if __name__ == "__main__":
    main()
