"""Search for files of published CIFAR-10 networks under the budgets that the README states.

Every row is one search: third-party weights, 2 cores, everything measured on ONNX Runtime with one
thread and batch 1, original and result in turn, and the test split once, at the end. An interrupted
row goes on in its directory.

Example:
    python -m benchmarks.search.headline --data DIR --models DIR --out DIR --only resnet20
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import edgewright as ew
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import describe_run, keep, provenance
from benchmarks.search.resnet8 import BYTES, load_resnet8, load_teacher
from edgewright.search import read_record
from edgewright.task import load_model, load_task

_PACKAGES: Final = ("edgewright", "torch", "onnxruntime", "optuna", "numpy")


@dataclass(frozen=True)
class Row:
    """One search.

    Attributes:
        model: The network.
        budget: The limits.
        time: The time of the search.
    """

    model: str
    budget: str
    time: str


ROWS: Final = {
    "resnet20": Row("resnet20", "size=15%,latency=40%,drop=1%", "20m"),
    "resnet56 at a tenth": Row("resnet56", "size=10%,latency=20%,drop=1%", "60m"),
    "resnet56 at a seventh": Row("resnet56", "size=15%,latency=33%,drop=0.1%", "60m"),
    "resnet8": Row("resnet8", "size=36kB,accuracy>=85%", "60m"),
}


def main() -> None:
    """Run the chosen rows and store each."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CIFAR-10's parquet files")
    parser.add_argument("--models", required=True, type=Path, help="folder of the weights")
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs, to resume")
    parser.add_argument("--only", default="*", help="pattern of rows to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS / "headline.json")
    settings = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name, row in ROWS.items():
        if fnmatchcase(name, settings.only):
            keep(settings.results, name, run(name, row, settings))


def run(name: str, row: Row, settings: argparse.Namespace) -> dict[str, Any]:
    """Search, and describe the result, its front and the predictions."""
    is_small = row.model == "resnet8"
    model = load_resnet8(settings.models) if is_small else load_model(
        f"{RESNETS}:{row.model}", settings.models / f"{row.model}-cifar10.safetensors")
    task = load_task(f"cifar10:{settings.data}", normalize=BYTES if is_small else "imagenet",
                     seed=settings.seed)
    out: Path = settings.out / name.replace(" ", "-")
    since = time.perf_counter()
    result = ew.compress(model, task, ew.Budget.parse(row.budget), out=out, time=row.time,
                         seed=settings.seed, name=row.model,
                         teacher=load_teacher(settings.models) if is_small else None)
    record = read_record(out)
    return {
        **provenance(_PACKAGES, seed=settings.seed), "budget": row.budget, "time": row.time,
        "seconds": round(time.perf_counter() - since, 1), **describe_run(result.manifest),
        "front": [{"name": name, "tested": trial.tested is not None,
                   "chosen": name == record.chosen,
                   **{one.name: one.value for one in trial.stated.measurements}}
                  for name, trial in ((name, record.trial(name)) for name in record.front)],
        "predictions": {found.name: {"mean_error": found.mean_error,
                                     "rank_correlation": found.rank_correlation}
                        for found in record.predictions},
    }


if __name__ == "__main__":
    main()
