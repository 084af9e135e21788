"""Jobs at real size: train each network, compress it, and measure the files on ONNX Runtime.

Each job of ``benchmarks/real_size`` has two rows: "int8" is calibrated after training, "pruned"
is pruned, recovered with the original as teacher, and calibrated. All figures are of the exported
files on the test split, on which nothing is selected. A training is resumed within it and kept, a
compression is resumed from its stages, and a row that is stored is not run again. The table in
docs/real_size.md is written from the rows.

``--data`` is a folder with the folders ``bccd``, ``cifar10`` and ``fsdd`` of the data sets' parquet
files; the tables of ``diabetes`` and ``tumours`` are part of scikit-learn.

Example:
    python -m benchmarks.real_size.run --data DIR --out runs/real_size --only 'anomalies'
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import torch

import edgewright as ew
from benchmarks.common.paths import RESULTS, ROOT
from benchmarks.common.result_rows import describe_run, keep, provenance, stored
from benchmarks.real_size import (
    anomalies,
    embedding,
    segmentation,
    streaming,
    super_resolution,
    tabular,
    two_heads,
)
from benchmarks.real_size.job import Job
from benchmarks.real_size.table import render

JOBS: Final[Mapping[str, Job]] = {
    "anomalies": anomalies.JOB,
    "segmentation": segmentation.JOB,
    "super_resolution": super_resolution.JOB,
    "embedding": embedding.JOB,
    "streaming": streaming.JOB,
    "two_heads": two_heads.JOB,
    "diabetes": tabular.DIABETES,
    "tumours": tabular.TUMOURS,
}
RECIPES: Final = ("int8", "pruned")
PACKAGES: Final = ("edgewright", "torch", "onnxruntime", "numpy", "scikit-learn", "soundfile")
TABLE: Final = ROOT / "docs" / "real_size.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows that are missing, and write the table."""
    settings = parse(arguments)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name, job in JOBS.items():
        missing = [recipe for recipe in RECIPES
                   if f"{name} {recipe}" not in stored(settings.results)]
        if missing and fnmatchcase(name, settings.only):
            run_job(name, job, missing, settings)
    settings.table.write_text(render(stored(settings.results), JOBS), encoding="utf-8")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder of the data sets' folders")
    parser.add_argument("--out", required=True, type=Path,
                        help="folder of the trainings and runs; both are resumed from it")
    parser.add_argument("--only", default="*", help="pattern of jobs to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS / "real_size.json")
    parser.add_argument("--table", type=Path, default=TABLE)
    return parser.parse_args(arguments)


def run_job(name: str, job: Job, recipes: Sequence[str], settings: argparse.Namespace) -> None:
    """Train a job's network and store a row per recipe."""
    folder = settings.out / name
    folder.mkdir(parents=True, exist_ok=True)
    task = job.make_task(settings.data)
    program, seconds = _train(job, task, folder, settings.seed)
    simple = job.simple_figures(settings.data, task)
    for recipe in recipes:
        result = ew.compress(program, task, recipe=job.recipe(recipe), out=folder / recipe,
                             seed=settings.seed, name=name)
        keep(settings.results, f"{name} {recipe}", {
            **provenance(PACKAGES, seed=settings.seed, epochs=job.epochs),
            "training_seconds": seconds, "test_samples": len(task.test),
            "metric": task.metric.name, **describe_run(result.manifest),
            "simple": simple,
            "original_file": job.file_figures(ew.load(folder / recipe / "baseline.edge"),
                                              settings.data, task),
            "compressed_file": job.file_figures(ew.load(result.bundle), settings.data, task)})


def _train(job: Job, task: ew.Task, folder: Path, seed: int) -> tuple[ew.Program, float | None]:
    """The trained program and the seconds it took; read from the folder if it is there."""
    file = folder / "trained.pt2"
    if file.is_file():
        return ew.Program.load(file), None
    torch.manual_seed(seed)
    since = time.perf_counter()
    captured: Any = ew.Program.capture(job.make_model(), task.train.example(2), **job.capture)
    program = ew.fit(captured, task, job.training, seed=seed, checkpoint=folder / "training.ckpt")
    program.save(file)
    return program, round(time.perf_counter() - since, 1)


if __name__ == "__main__":
    main()
