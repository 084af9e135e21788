"""What deciding together, racing, and proposing by a Gaussian process each add to a search.

Every row is one search for a network on the embedded 8 x 8 digits under one budget, with equal
time: the search as it is, with blocks, widths and bits decided one after the other (`InTurn`),
with the first answer alone, and with random proposals. Figures are those of the exported file on
the test split, which selects nothing.

Example:
    python -m benchmarks.search.ablation --out runs/ablation
"""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, cast

import torch

import edgewright as ew
from benchmarks.common.paths import RESULTS, ROOT
from benchmarks.common.result_rows import describe_run, keep, provenance, stored
from benchmarks.search.in_turn import InTurn
from edgewright.pipeline import Result, RunLog, RunSettings, capture_original
from edgewright.program import Program
from edgewright.search._executor import InProcess
from edgewright.search._prepare import open_search
from edgewright.task import Task, load_model, load_task

_PACKAGES: Final = ("edgewright", "torch", "onnxruntime", "optuna", "numpy")
BUDGETS: Final = ("size=12%,macs=30%", "size=8%,macs=20%", "size=5%,macs=12%")
_TRAINING: Final = ew.Training(time=60, batch_size=64, lr=0.05, schedule="one_cycle", augment=False)
_QUANTIZED: Final = ew.Training(time=60, batch_size=64, lr=0.002, weight_decay=1e-5, clip_norm=1.0,
                                augment=False)
SEARCH: Final = ew.Search(training=_TRAINING, quantized_training=_QUANTIZED, exits=None)
VARIANTS: Final = {"joint": SEARCH, "one after the other": SEARCH,
                   "first answer": SEARCH.replace(candidates=1),
                   "random proposals": SEARCH.replace(sampler="random")}


def main() -> None:
    """Run the rows that are not stored yet."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs, to resume")
    parser.add_argument("--only", default="*", help="pattern of rows to run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=90, help="time of every search")
    parser.add_argument("--results", type=Path, default=RESULTS / "ablation.json")
    settings = parser.parse_args()
    for seed in range(settings.seeds):
        task = load_task("digits", seed=seed)
        original = _train(task, seed)
        for budget in BUDGETS:
            for variant in VARIANTS:
                name = f"{variant}, {budget}, seed {seed}"
                if fnmatchcase(name, settings.only) and name not in stored(settings.results):
                    result = _search(original, task, budget, variant, seed, settings)
                    keep(settings.results, name, {
                        **provenance(_PACKAGES, seed=seed), "budget": budget, "variant": variant,
                        "seconds": settings.seconds, **describe_run(result.manifest)})


def _train(task: Task, seed: int) -> Program:
    torch.manual_seed(seed)
    untrained = load_model(f"{ROOT / 'examples' / 'digits_resnet.py'}:digits_resnet")
    program = capture_original(untrained, task, seed)
    return ew.fit(program, task, ew.Training(epochs=20, batch_size=64, augment=False), seed=seed)


def _search(original: Program, task: Task, budget: str, variant: str, seed: int,
            settings: argparse.Namespace) -> Result:
    limits, config = ew.Budget.parse(budget), VARIANTS[variant]
    folder = settings.out / f"{variant}-{budget}-{seed}".replace(" ", "-")
    run = RunSettings(original, task, limits, seed, variant, RunLog(quiet=True))
    with open_search(run, config, folder, settings.seconds, InProcess()) as search:
        if variant == "one after the other":
            search.planner = cast(Any, InTurn(search.planner))
        return search.run()


if __name__ == "__main__":
    main()
