"""Early exits on CIFAR-10 ResNets: accuracy against mean cost, the whole curve, on the runtime.

Exits are placed automatically (``EarlyExits(places="auto")``) on the published weights and trained
for a few epochs, the backbone frozen or with them, on the published network's outputs for a few
views of every image, computed once and cached. The files are exported, temperatures and thresholds
chosen on 5,000 images held out of train for every drop allowed, and all of it judged on the 10,000
test images on ONNX Runtime: accuracy, mean multiply-accumulates, and mean latency of single samples
on one pinned core, in turn with the file of the network without exits in the same precision. The
published weights have seen the held-out images, so that thresholds are chosen on images that are
too easy: the drop on test is the one to read.

A row is a model, a kind of training and a precision, with one curve for each policy; each row is
stored once measured and not measured again.

Example:
    python -m benchmarks.early_exit.cifar10 --data DIR --weights DIR --only 'resnet56-freeze-*'
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import edgewright as ew
from benchmarks.common.arguments import row_arguments
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import Rows, keep, provenance, stored
from edgewright.bundle import Bundle
from edgewright.core import EXIT_POLICIES, Budget, ExitPolicy, OperatingPoint
from edgewright.distill import as_teacher, cache_teacher, make_objective
from edgewright.exits import HeadTraining, JointTraining, calibrate_exits, predict_exits
from edgewright.pipeline import Recipe
from edgewright.pipeline._assemble import Assembly
from edgewright.pipeline._evaluate import (
    evaluate_operating_point,
    run_every_exit,
    time_sessions,
)
from edgewright.pipeline._points import open_at_point, replace_points
from edgewright.runtime import Session
from edgewright.task import load_model, load_task
from edgewright.training import Compute

STORED: Final = RESULTS / "early_exit_cifar10.json"
DROPS: Final = {"0": 0.0, "0.25": 0.0025, "0.5": 0.005, "0.75": 0.0075, "1": 0.01, "1.5": 0.015,
                "2": 0.02, "4": 0.04}
VIEWS: Final = 3  # of every image that the published network is asked about
ALLOWED: Final = 0.005  # points below the full model, on test, of the table
Said = tuple[list[NDArray[Any]], NDArray[Any]]
_PACKAGES: Final = ("edgewright", "torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Point:
    """One row.

    Attributes:
        model: Factory in ``examples/resnet.py``.
        backbone: ``train`` it with the exits, or ``freeze`` it.
        epochs: Of the exits' training.
        precision: Of the files.
    """

    model: str
    backbone: str
    epochs: int
    precision: str

    @property
    def key(self) -> str:
        """Name of the row."""
        return f"{self.model}-{self.backbone}-{self.precision}"


POINTS: Final = tuple(Point(model, backbone, epochs, precision)
                      for model in ("resnet56", "resnet20")
                      for backbone, epochs in (("freeze", 2), ("train", 4))
                      for precision in ("float", "int8"))


def main() -> None:
    """Run the rows that are asked for and missing, then print the table."""
    arguments = parse()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = stored(arguments.results)
    todo = [point for point in POINTS
            if point.key not in rows and fnmatchcase(point.key, arguments.only)]
    if arguments.list:
        print(*(point.key for point in todo), sep="\n")
        return
    for point in todo:
        keep(arguments.results, point.key, run(point, arguments))
    print(table(stored(arguments.results)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = row_arguments(__doc__, STORED)
    parser.add_argument("--threads", type=int, help="of torch; all cores if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--programs", type=Path, help="folder of the trained programs, which rows "
                        "of another precision begin from, and of what the network said",
                        default=Path(tempfile.gettempdir(), "edgewright-dynamic-cifar10"))
    return parser.parse_args()


def run(point: Point, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train the exits, export, and walk along the curve of every policy."""
    task = load_task(f"cifar10:{arguments.data}", normalize="imagenet", seed=arguments.seed)
    model = load_model(f"{RESNETS}:{point.model}",
                       arguments.weights / f"{point.model}-cifar10.safetensors")
    whole = ew.Program.capture(model, task.train.example(2))
    config = count_exits(point)
    since = time.perf_counter()
    dynamic = trained(whole, model, task, config, point, arguments)
    seconds = round(time.perf_counter() - since, 1)
    if point.precision == "int8":
        whole, dynamic = (ew.quantize(one, task, ew.Quantization(), seed=arguments.seed)
                          for one in (whole, dynamic))
    assembly = Assembly(task, Budget(), Recipe(name="exits"), config, arguments.seed, point.model)
    full, draft = assembly.draft(whole), assembly.draft(dynamic)
    figures, _ = evaluate_operating_point(Session(full), task.test, task.goal)
    said = run_every_exit(Session(draft), task.val), run_every_exit(Session(draft), task.test)
    return {
        "full": {"accuracy": figures["accuracy"], "macs": figures["macs"]},
        "segment_macs": [segment.macs for segment in draft.manifest.model.segments],
        "curves": {policy: curve(policy, draft, full, task, config, said, arguments.seed)
                   for policy in EXIT_POLICIES
                   if not (policy == "patience" and dynamic.exits < 2)},
        "training": config.training.model_dump(exclude_defaults=True) if config.training else None,
        "fit_seconds": seconds,
        **provenance(_PACKAGES, seed=arguments.seed, threads=torch.get_num_threads()),
    }


def count_exits(point: Point) -> ew.EarlyExits:
    """The settings of a row; what was tried in their place is in docs/decisions."""
    lr = 0.05 if point.backbone == "freeze" else 0.02
    settings = ew.Training(epochs=point.epochs, lr=lr, compute=Compute(compile="auto"))
    return ew.EarlyExits(training=HeadTraining(settings=settings) if point.backbone == "freeze"
                         else JointTraining(settings=settings))


def trained(whole: ew.Program, model: nn.Module, task: ew.Task, config: ew.EarlyExits,
            point: Point, arguments: argparse.Namespace) -> ew.Program:
    """The program with its exits, from the folder where it is kept."""
    name = f"{point.model}-{point.backbone}-{arguments.seed}"
    path = arguments.programs / f"{name}.pt2"
    if path.is_file():
        return ew.Program.load(path)
    arguments.programs.mkdir(parents=True, exist_ok=True)
    teacher = cache_teacher(as_teacher(model), task, views=VIEWS,
                            path=arguments.programs / f"{point.model}-{VIEWS}.soft")
    program = ew.add_exits(whole, task, config, objective=make_objective(teacher),
                           seed=arguments.seed, checkpoint=arguments.programs / f"{name}.ckpt")
    program.save(path)
    return program


def curve(policy: ExitPolicy, draft: Bundle, full: Bundle, task: ew.Task, config: ew.EarlyExits,
          logits: tuple[Said, Said], seed: int) -> list[dict[str, Any]]:
    """Every operating point of one policy, evaluated on the file's outputs on the test split.

    A session gives the very same answers, which its tests show.
    """
    settings = config.calibration.replace(policy=policy, max_drop=0.0,
                                          points={k: v for k, v in DROPS.items() if v})
    val, test = logits
    macs = [segment.macs for segment in draft.manifest.model.segments]
    found = calibrate_exits(*val, macs, settings, seed=seed)
    bundle = replace_points(draft, tuple(one.point for one in found))
    sessions = {point.name: open_at_point(bundle, point.name)
                for point in bundle.manifest.model.points}
    latencies = time_sessions({"full": Session(full), **sessions}, task.test)
    full_ms = latencies["full"][1].value
    rows = []
    for name, calibration in zip(DROPS, found, strict=True):
        answers = predict_exits(*test, calibration.point.rules, policy)
        left = answers.left_at(calibration.point.thresholds)
        mean = latencies[calibration.point.name][1]
        rows.append({"drop_allowed": DROPS[name],
                     "accuracy": float(answers.quality_at(calibration.point.thresholds).mean()),
                     "macs": float(np.cumsum(macs)[left].mean()),
                     "latency_ratio": round(mean.value / full_ms, 4),
                     "mean_latency_ms": mean.value,
                     "shares": (np.bincount(left, minlength=len(macs)) / len(left)).tolist(),
                     "thresholds": calibration.point.thresholds,
                     "calibration_errors": _errors(calibration.point)})
    return rows


def _errors(point: OperatingPoint) -> dict[str, tuple[float, ...]]:
    """Of every early exit, before and after its temperature."""
    known = point.calibrated
    return {} if known is None else {"before": known.errors_before, "after": known.errors_after}


def table(rows: Rows) -> str:
    """Of each row and policy the cheapest point that is not further below the full model."""
    lines = ["| row | policy | full | with exits | points | mean MACs | mean latency | leave at |",
             "|---|---|---|---|---|---|---|---|"]
    for point in POINTS:
        row: dict[str, Any] = rows.get(point.key, {"curves": {}})
        for policy, points in row["curves"].items():
            full = row["full"]
            near = [one for one in points if one["accuracy"] >= full["accuracy"] - ALLOWED]
            if not near:
                continue
            best = min(near, key=lambda one: one["macs"])
            lines.append(
                f"| {point.key} | {policy} | {100 * full['accuracy']:.2f} | "
                f"{100 * best['accuracy']:.2f} | "
                f"{100 * (best['accuracy'] - full['accuracy']):+.2f} | "
                f"{100 * best['macs'] / full['macs']:.1f} % | "
                f"{100 * best['latency_ratio']:.1f} % | "
                f"{', '.join(f'{100 * share:.0f} %' for share in best['shares'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
