"""A session under load: a busy process takes half of its core, half-way, for a while.

A bundle of two ResNets in 8 bits, with exits at several drops, runs 16 images per call on one
pinned core, as fast as it can, under a deadline. After a third of the time a second process, pinned
to the same core, only counts; after another third it is killed. Stored are the latency's
percentiles in each third, with the controller and without, how long it took to move, and every
change of operating point with its reason.

Example:
    python -m benchmarks.early_exit.adaptation_trace --data DIR --weights DIR --programs DIR
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

import edgewright as ew
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import provenance
from edgewright.bundle import write_bundle
from edgewright.core import Budget
from edgewright.exits import ExitCalibration
from edgewright.measure import pin_to_core
from edgewright.pipeline import Recipe
from edgewright.pipeline._assemble import Assembly
from edgewright.pipeline._points import add_operating_points, evaluate_operating_points
from edgewright.pipeline._run_log import RunLog
from edgewright.runtime import Session
from edgewright.task import load_model, load_task

DROPS: Final = {"half": 0.01, "cheap": 0.05}
MARGIN: Final = 1.5  # of the deadline, over the default point's p95 in peace
BATCH: Final = 16  # images per call: longer than the slices in which a core is shared
_PACKAGES: Final = ("edgewright", "torch", "onnxruntime", "numpy")


def main() -> None:
    """Measure, print and store."""
    given = parse()
    task = load_task(f"cifar10:{given.data}", normalize="imagenet")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "both.edge")
        ew.combine({"resnet56": bundle("resnet56", task, given, Path(folder)),
                    "resnet20": bundle("resnet20", task, given, Path(folder))}, path)
        record = {"points": facts(path)} | {
            name: thirds(path, task, given.seconds, adaptive=adaptive)
            for name, adaptive in (("adaptive", True), ("fixed", False))}
    record |= provenance(_PACKAGES, seconds=given.seconds)
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--programs", required=True, type=Path,
                        help="folder where benchmarks.early_exit.cifar10 keeps programs with exits")
    parser.add_argument("--seconds", type=int, default=30, help="of one run, thirds of it each")
    parser.add_argument("--out", type=Path, default=RESULTS / "adaptation_trace.json")
    return parser.parse_args()


def bundle(name: str, task: ew.Task, given: argparse.Namespace, folder: Path) -> Path:
    """A network's bundle in 8 bits: with the exits that were trained before, or without any."""
    path = given.programs / f"{name}-train-0.pt2"
    weights = given.weights / f"{name}-cifar10.safetensors"
    program = (ew.Program.load(path) if path.is_file() else
               ew.Program.capture(load_model(f"{RESNETS}:{name}", weights), task.train.example(2)))
    exits = ew.EarlyExits(calibration=ExitCalibration(
        max_drop=0.0025, points=DROPS)) if program.exits else None
    assembly = Assembly(task, Budget(), Recipe(name="trace"), exits, 0, name)
    draft = assembly.draft(ew.quantize(program, task, ew.Quantization(calibration_samples=512)))
    if exits is not None:
        draft = add_operating_points(draft, task, exits.calibration, 0, RunLog(quiet=True))
    figures, manifest = evaluate_operating_points(Session(draft), draft, task)
    write_bundle(folder / f"{name}.edge", manifest.with_report(compressed=figures),
                 draft.segments)
    return folder / f"{name}.edge"


def facts(path: Path) -> dict[str, Any]:
    """What each point is worth on the test split."""
    return {point.name: {"accuracy": point.figures.get("accuracy"),
                         "macs": point.figures.get("macs")} for point in ew.load(path).points}


def busy(core: int | None) -> None:
    """Take what there is of a core."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    count = 0
    while True:
        count += 1


def thirds(path: Path, task: ew.Task, seconds: int, *, adaptive: bool) -> dict[str, Any]:
    """Peace, load, peace: each call's latency and point, with the session's own trace."""
    session = ew.load(path)
    images = [batch.inputs[0].numpy() for batch in task.test.sample(512).batches(BATCH)]
    with pin_to_core() as core:
        quiet = [session(images[index % len(images)]).latency_ms for index in range(200)]
        deadline = MARGIN * float(np.percentile(quiet, 95))
        if adaptive:
            session.deadline_ms = deadline
        calls: list[tuple[float, float, str, bool]] = []
        marks: list[float] = []
        load = multiprocessing.Process(target=busy, args=(core,), daemon=True)
        began, clock = time.perf_counter(), time.monotonic()
        for third in range(3):
            if third == 1:
                load.start()
            if third == 2:
                load.kill()
                load.join()
            marks.append(time.perf_counter() - began)
            while time.perf_counter() - began < (third + 1) * seconds / 3:
                found = session(images[len(calls) % len(images)])
                calls.append((time.perf_counter() - began, found.latency_ms, found.point,
                              bool(found.cut_short.any())))
    return {"deadline_ms": round(deadline, 3), "core": core,
            "thirds": [_third(calls, since, until) for since, until
                       in zip(marks, [*marks[1:], float(seconds)], strict=True)],
            "first_second_of_load": _third(calls, marks[1], marks[1] + 1),
            "load_after_a_second": _third(calls, marks[1] + 1, marks[2]),
            "late": session.stats().late, "cut_short": session.stats().cut_short,
            "trace": [{"s": round(change.time_s - clock, 2),
                       "from": session.points[change.before].name,
                       "to": session.points[change.after].name, "reason": change.reason}
                      for change in session.controller.trace]}


def _third(calls: list[tuple[float, float, str, bool]], since: float,
           until: float) -> dict[str, Any]:
    """Percentiles and points between two moments."""
    inside = [call for call in calls if since <= call[0] < until]
    times = [call[1] for call in inside]
    points = [call[2] for call in inside]
    return {"calls": len(inside), "cut_short": sum(call[3] for call in inside),
            **{f"p{rank}_ms": round(float(np.percentile(times, rank)), 3) for rank in (50, 95, 99)},
            "points": {name: points.count(name) for name in sorted(set(points))}}


if __name__ == "__main__":
    main()
