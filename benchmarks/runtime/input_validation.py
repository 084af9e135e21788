"""What it costs that a session refuses NaN and infinity: calls with the check, and without it.

ResNet-20 of the examples, in floating point, without exits and with automatic ones that no sample
takes (untrained: the check's cost does not depend on the weights), at batch 1 and 8; and a network
that does next to nothing on images of 224 x 224, where the check is the most expensive part.

Example:
    python -m benchmarks.runtime.input_validation
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

import edgewright as ew
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import provenance
from edgewright.bundle import Bundle
from edgewright.core import (
    Budget,
    ExitRule,
    Figures,
    Manifest,
    ModelSpec,
    OperatingPoint,
    RunReport,
)
from edgewright.measure import compare_latency, machine, pin_to_core
from edgewright.pipeline._segments import input_specs, output_specs, to_segments
from edgewright.runtime import Session
from edgewright.task import load_model

_PACKAGES: Final = ("edgewright", "onnxruntime", "numpy")


class Mean(nn.Module):
    """The mean of every channel."""

    def forward(self, x: Tensor) -> Tensor:
        """From images (N, C, H, W) to (N, C)."""
        return x.mean((2, 3))


def main() -> None:
    """Measure, print and store."""
    given = parse()
    torch.manual_seed(0)
    whole = ew.Program.capture(load_model(f"{RESNETS}:resnet20"), torch.randn(2, 3, 32, 32))
    no_task = cast("ew.Task", None)   # as nothing is trained
    staged = ew.add_exits(whole, no_task, ew.EarlyExits(training=None))
    mean = ew.Program.capture(Mean(), torch.randn(2, 3, 224, 224))
    rows = [row(name, program, batch, given.rounds) for name, program, batch in (
        ("resnet20", whole, 1), ("resnet20", whole, 8), ("resnet20 with exits", staged, 1),
        ("resnet20 with exits", staged, 8), ("mean", mean, 1))]
    record = {"rows": rows, **provenance(_PACKAGES, rounds=given.rounds)}
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS / "input_validation.json")
    return parser.parse_args()


def row(name: str, program: ew.Program, batch: int, rounds: int) -> dict[str, Any]:
    """Latencies with and without the check, in turn on one core.

    Where others use the machine, too, the 10th percentiles tell more than the medians.
    """
    bundle = _bundle(program)
    sizes = bundle.manifest.model.inputs[0].shape[1:]
    shape = (batch, *(size if isinstance(size, int) else 1 for size in sizes))
    samples = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def calling(*, validate: bool) -> Callable[[int], object]:
        session = Session(bundle, validate=validate)
        return lambda _: session(samples)

    with pin_to_core() as core:
        found = compare_latency({"validated": calling(validate=True),
                                 "unvalidated": calling(validate=False)},
                                rounds=max(rounds // batch, 50), warmup=20)
    with_check, without = found["validated"], found["unvalidated"]
    return {"network": name, "batch": batch, "shape": list(shape), "core": core,
            "segments": len(bundle.segments), "validated_ms": round(with_check.median_ms, 4),
            "unvalidated_ms": round(without.median_ms, 4),
            "ratio": round(with_check.median_ms / without.median_ms, 4),
            "p10_cost_us": round(1e3 * (with_check.low_ms - without.low_ms), 1),
            "p10_ratio": round(with_check.low_ms / without.low_ms, 4)}


def _bundle(program: ew.Program) -> Bundle:
    segments, files = to_segments(program)
    rules = (ExitRule(threshold=None),) * (len(segments) - 1)
    point = OperatingPoint(name="default", path=tuple(range(len(segments))), rules=rules)
    manifest = Manifest(
        model=ModelSpec(name="benchmark", inputs=input_specs(program),
                        outputs=output_specs(program), segments=segments, points=(point,)),
        report=RunReport(data="none", recipe={}, seed=0, budget=Budget(), versions={},
                         machine=machine(), original=Figures(), compressed=Figures(),
                         simulated=Figures()))
    return Bundle(Path("benchmark.edge"), manifest, files)


if __name__ == "__main__":
    main()
