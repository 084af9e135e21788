"""What a fit of the remaining layers recovers after blocks went, and which damages rank best.

Random subsets of the blocks of ResNet-56 are removed, and the remaining layers are fitted without
training. The loss on validation samples after the fit is compared with the sum of predicted
damages, measured with and without a fit of the layers around each block, and with and without the
interactions of adjacent pairs, by Spearman's rank correlation. An interrupted run goes on.

Example:
    python -m benchmarks.pruning.block_refit --data DIR --models DIR
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import keep, provenance, stored
from edgewright.channels import Branch, find_branches, remove_branches
from edgewright.program import Program
from edgewright.pruning import BlockDamages, measure_block_damages, refit_layers
from edgewright.task import Split, Task, load_model, load_task
from edgewright.training import evaluate_module, measure_loss

_PACKAGES: Final = ("edgewright", "torch", "numpy")
_COUNTS: Final = (8, 15, 11, 9, 13, 12, 10, 14, 11, 13, 9, 12)
_LAYERS: Final = {"fitted": 3, "plain": 0}
_FIRST_OF_STAGE: Final = ("layer2.0", "layer3.0")  # no search would remove them


def main() -> None:
    """Measure the damages and every subset, and store each."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CIFAR-10's parquet files")
    parser.add_argument("--models", required=True, type=Path, help="folder of the weights")
    parser.add_argument("--samples", type=int, default=512, help="training samples to fit to")
    parser.add_argument("--evaluated", type=int, default=1000, help="samples to evaluate on")
    parser.add_argument("--subsets", type=int, default=len(_COUNTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS / "block_refit.json")
    settings = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    task = load_task(f"cifar10:{settings.data}", normalize="imagenet", seed=settings.seed)
    model = load_model(f"{RESNETS}:resnet56", settings.models / "resnet56-cifar10.safetensors")
    program = Program.capture(model, task.train.example(2))
    damages = {name: _damages(name, program, task, settings) for name in _LAYERS}
    subsets = [_subset(place, program, task, settings) for place in range(settings.subsets)]
    keep(settings.results, "rank correlations", _correlate(damages, subsets))


def _damages(name: str, program: Program, task: Task,
             settings: argparse.Namespace) -> BlockDamages:
    row = stored(settings.results).get(f"damages, {name}")
    if row is None:
        since = time.process_time()
        samples = task.train.sample(settings.samples, seed=settings.seed)
        found = measure_block_damages(program, find_branches(program), samples, task.goal,
                                      layers=_LAYERS[name], seed=settings.seed)
        row = {**provenance(_PACKAGES, seed=settings.seed),
               "cpu_seconds": round(time.process_time() - since, 1), "alone": dict(found.alone),
               "pairs": [[*names, rise] for names, rise in found.pairs.items()]}
        keep(settings.results, f"damages, {name}", row)
    return BlockDamages(row["alone"], {(first, second): rise
                                       for first, second, rise in row["pairs"]})


def _subset(place: int, program: Program, task: Task,
            settings: argparse.Namespace) -> dict[str, Any]:
    name, count = f"subset {place}", _COUNTS[place]
    row = stored(settings.results).get(name)
    if row is None:
        removed = _draw(program, count, settings.seed + place)
        shortened = remove_branches(program, removed)
        since = time.process_time()
        fitted = refit_layers(program, shortened,
                              task.train.sample(settings.samples, seed=settings.seed),
                              seed=settings.seed).program
        row = {**provenance(_PACKAGES, seed=settings.seed),
               "removed": [branch.name for branch in removed],
               "fit_cpu_seconds": round(time.process_time() - since, 1),
               "before": _evaluate(shortened, task, settings),
               "after": _evaluate(fitted, task, settings)}
        keep(settings.results, name, row)
    return row


def _draw(program: Program, count: int, seed: int) -> Sequence[Branch]:
    branches = [branch for branch in find_branches(program) if branch.name not in _FIRST_OF_STAGE]
    places = random.Random(seed).sample(range(len(branches)), count)  # noqa: S311 - no secret
    return [branches[place] for place in sorted(places)]


def _evaluate(program: Program, task: Task, settings: argparse.Namespace) -> dict[str, float]:
    def accuracy(split: Split) -> float:
        return evaluate_module(program.module(), split, task.goal)[-1].value

    validation, test = (split.sample(settings.evaluated, seed=settings.seed)
                        for split in (task.val, task.test))
    return {"validation_loss": measure_loss(program.module(), validation, task.goal),
            "validation_accuracy": accuracy(validation), "test_accuracy": accuracy(test)}


def _correlate(damages: dict[str, BlockDamages],
               subsets: Sequence[dict[str, Any]]) -> dict[str, float]:
    from scipy.stats import spearmanr  # noqa: PLC0415 - slow to import

    losses = [row["after"]["validation_loss"] for row in subsets]

    def correlation(predicted: Sequence[float]) -> float:
        return round(float(spearmanr(predicted, losses).statistic), 3)

    found = {"number of blocks": correlation([len(row["removed"]) for row in subsets])}
    for name, one in damages.items():
        alone = [sum(one.alone[block] for block in row["removed"]) for row in subsets]
        pairs = [sum(rise for names, rise in one.pairs.items()
                     if set(names) <= set(row["removed"])) for row in subsets]
        found[name] = correlation(alone)
        found[f"{name}, with pairs"] = correlation(
            [first + second for first, second in zip(alone, pairs, strict=True)])
    return found


if __name__ == "__main__":
    main()
