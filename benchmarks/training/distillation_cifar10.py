"""What a small student learns from larger teachers: CIFAR-10, ResNet-20 of half the width.

Every row trains the same freshly drawn student, with the same seed, schedule and number of epochs;
only what teaches it differs. 5,000 of the training images are held out: they select the epoch. The
10,000 test images are only measured on. The teachers' published weights have seen the held-out
images too, which flatters no row: all are selected by the student's own accuracy.

Live rows run the teacher at every step, on another view of each image per epoch. Cached rows run it
once on a few views, which the epochs use in turn; making the cache is timed separately (None where
it existed).

Each row is stored once measured and not measured again, so the benchmark can be run in pieces.

Example:
    python -m benchmarks.training.distillation_cifar10 --data DIR --weights DIR \
        --only 'hinton-*-seed0'
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean
from typing import Any, Final

import torch

import edgewright as ew
from benchmarks.common.accuracy import accuracies
from benchmarks.common.arguments import row_arguments
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import Rows, keep, provenance, stored
from edgewright.distill import as_teacher, cache_teacher, make_student
from edgewright.task import load_model, load_task

STORED: Final = RESULTS / "distill_cifar10.json"
EPOCHS: Final = 6
VIEWS: Final = 3  # so that every view is seen twice
_BOTH: Final = ("resnet56", "resnet20")
_PACKAGES: Final = ("edgewright", "torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Lesson:
    """What teaches the student.

    Attributes:
        distillation: What is learned; None learns from the labels alone.
        teachers: Names of the teachers.
        cached: Whether they are asked once.
        seeds: Of the student's first weights and of its training, one row each.
    """

    distillation: ew.Distillation | None
    teachers: tuple[str, ...] = ("resnet56",)
    cached: bool = False
    seeds: tuple[int, ...] = (0,)


LESSONS: Final = {
    "labels": Lesson(None, (), seeds=(0, 1, 2)),
    "hinton-live": Lesson(ew.Distillation(), seeds=(0, 1, 2)),
    "hinton-cached": Lesson(ew.Distillation(), cached=True, seeds=(0, 1, 2)),
    "decoupled-cached": Lesson(ew.Distillation(logits="decoupled"), cached=True),
    "standardized-cached": Lesson(ew.Distillation(logits="standardized", temperature=2.0),
                                  cached=True),
    "hints-live": Lesson(ew.Distillation(features="hints")),
    "attention-live": Lesson(ew.Distillation(features="attention")),
    "two-live": Lesson(ew.Distillation(), _BOTH),
    "two-cached": Lesson(ew.Distillation(), _BOTH, cached=True),
}


def main() -> None:
    """Run the rows that are asked for and missing, then print the table."""
    arguments = parse()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = stored(arguments.results)
    todo = {key: (lesson, seed) for name, lesson in LESSONS.items() for seed in lesson.seeds
            if (key := f"{name}-seed{seed}") not in rows and fnmatchcase(key, arguments.only)}
    if arguments.list:
        print(*todo, sep="\n")
        return
    for key, (lesson, seed) in todo.items():
        keep(arguments.results, key, run(lesson, seed, arguments))
    print(table(stored(arguments.results)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = row_arguments(__doc__, STORED)
    parser.add_argument("--threads", type=int, help="of torch; all cores if left out")
    parser.add_argument("--caches", type=Path, help="folder of the teachers' caches",
                        default=Path(tempfile.gettempdir(), "edgewright-distill-cifar10"))
    parser.add_argument("--samples", type=int, help=argparse.SUPPRESS)  # to see that it runs
    return parser.parse_args()


def run(lesson: Lesson, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one student, and measure it."""
    task = load(arguments)
    models = [load_model(f"{RESNETS}:{name}", arguments.weights / f"{name}-cifar10.safetensors")
              for name in lesson.teachers]
    shape = ew.Program.capture(load_model(f"{RESNETS}:resnet20"), task.train.example(1))
    program = make_student(shape, width=0.5, seed=seed)
    teacher: Any = models[0] if len(models) == 1 else models or None
    facts: dict[str, Any] = {"teachers": list(lesson.teachers)}
    if lesson.cached:
        path = arguments.caches / f"{'+'.join(lesson.teachers)}-{VIEWS}-{len(task.train)}.soft"
        was_there, since = path.exists(), time.perf_counter()
        teacher = cache_teacher(as_teacher(teacher), task, path, views=VIEWS)
        facts |= {"views": VIEWS, "bytes_per_sample": teacher.bytes_per_sample,
                  "cache_seconds": None if was_there else round(time.perf_counter() - since, 1)}
    since = time.perf_counter()
    training = schedule()
    trained = ew.fit(program, task, training, teacher, distillation=lesson.distillation, seed=seed)
    seconds = round(time.perf_counter() - since, 1)
    costs = trained.costs()
    return {
        **accuracies(trained, task), **facts, "fit_seconds": seconds,
        "macs": costs.macs, "parameters": costs.parameters,
        "distillation": None if lesson.distillation is None else
                        lesson.distillation.model_dump(exclude_defaults=True),
        "training": training.model_dump(exclude_defaults=True),
        **provenance(_PACKAGES, seed=seed, threads=torch.get_num_threads()),
    }


def load(arguments: argparse.Namespace) -> ew.Task:
    """CIFAR-10, the same images held out at every seed."""
    task = load_task(f"cifar10:{arguments.data}", normalize="imagenet")
    if arguments.samples is None:
        return task
    train, val, test = (split.sample(arguments.samples)
                        for split in (task.train, task.val, task.test))
    return ew.Task(train, val, test, preprocessing=task.preprocessing, name=task.name)


def schedule() -> ew.Training:
    """Of every row: short, so the learning rate rises first and then falls to 0.

    The norm is clipped because gradients of features of fresh weights are large.
    """
    return ew.Training(epochs=EPOCHS, lr=0.1, schedule="one_cycle", clip_norm=5.0)


def table(rows: Rows) -> str:
    """Test accuracy in percent, the mean over the seeds that are there, and the gain by a teacher.

    The gain is over the labels alone with the same seeds.
    """
    lines = ["| lesson | teachers | seeds | torch | ONNX Runtime | over labels | s |",
             "|---|---|---|---|---|---|---|"]
    for name, lesson in LESSONS.items():
        seeds = [seed for seed in lesson.seeds if f"{name}-seed{seed}" in rows]
        if not seeds:
            continue
        found = [rows[f"{name}-seed{seed}"] for seed in seeds]
        labels = [rows[key] for seed in seeds if (key := f"labels-seed{seed}") in rows]
        gain = (f"{_percent(found) - _percent(labels):+.2f}" if len(labels) == len(found) else "")
        lines.append(f"| {name} | {' + '.join(lesson.teachers) or 'none'} | "
                     f"{', '.join(map(str, seeds))} | {_percent(found):.2f} | "
                     f"{_percent(found, 'test_accuracy_onnx'):.2f} | {gain} | "
                     f"{mean(row['fit_seconds'] for row in found):.0f} |")
    return "\n".join(lines)


def _percent(rows: list[dict[str, Any]], figure: str = "test_accuracy") -> float:
    return 100 * mean(float(row[figure]) for row in rows)


if __name__ == "__main__":
    main()
