"""Compress a CIFAR-10 ResNet end to end and write the measured row as JSON.

Example:
    python -m benchmarks.pipeline.compress_cifar10 --data DIR --weights FILE --recipe fast
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import edgewright as ew
from benchmarks.common.commands import running_command
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import describe_figures
from edgewright.task import load_model, load_task


def main() -> None:
    """Run one row and add it to the results."""
    arguments = parse()
    warnings.filterwarnings("ignore", category=FutureWarning)
    since = time.perf_counter()
    model = load_model(f"{RESNETS}:{arguments.model}", arguments.weights)
    task = load_task(f"cifar10:{arguments.data}", normalize="imagenet", seed=arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        result = ew.compress(model, task, ew.Budget.parse(arguments.budget), arguments.recipe,
                             arguments.out or Path(folder, "run"), seed=arguments.seed,
                             name=arguments.model)
    row = to_row(result.manifest)
    if arguments.out is None:  # a run directory may have been resumed
        row["seconds"] = round(time.perf_counter() - since, 1)
    key = f"{arguments.model}-{arguments.recipe}"
    file: Path = arguments.results
    rows: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**rows, key: row}, indent=1) + "\n")
    print(json.dumps(row, indent=1))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CIFAR-10's parquet files")
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--model", default="resnet20", choices=["resnet20", "resnet56"])
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--budget", default="size=400kB,drop=1%")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="run directory, to resume; else a temporary one")
    parser.add_argument("--results", type=Path, default=RESULTS / "compress_cifar10.json")
    return parser.parse_args()


def to_row(manifest: ew.Manifest) -> dict[str, Any]:
    """Figures, ratios taken in this one run, and everything needed to repeat it."""
    report, tested = manifest.report, manifest.model.default_point.tested
    return {
        "command": running_command(),
        "seed": report.seed,
        "machine": report.machine,
        "versions": report.versions,
        "stage_seconds": {stage.name: round(stage.seconds, 1) for stage in report.stages},
        "stage_accuracy_val": {stage.name: stage.figures["accuracy"] for stage in report.stages},
        "original": describe_figures(report.original),
        "compressed": describe_figures(report.compressed),
        "ratios": {name: round(report.original[name] / report.compressed[name], 3)
                   for name in report.original.names() if report.compressed.get(name)},
        "drop_points": round(100 * (report.original["accuracy"]
                                    - report.compressed["accuracy"]), 3),
        "exit_shares": tested.shares if tested else (),
        "parity": report.parity.model_dump() if report.parity else None,
        "breaches": [str(breach) for breach in report.breaches],
    }


if __name__ == "__main__":
    main()
