"""The main job on the embedded digits: train a teacher, search for the best file, print it."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch
from rich.console import Console

import edgewright as ew
from digits_resnet import digits_resnet
from edgewright.report import summary_table
from edgewright.task import load_task
from edgewright.training import RichProgress

SEED = 0
SECONDS = 170  # for everything
BUDGET = ew.Budget(size="30 %", macs="33 %", energy="50 %", max_drop="1 %", accuracy="90 %")
TRAINING = ew.Training(time=60, batch_size=64, lr=0.05, schedule="one_cycle", augment=False)
SEARCH = ew.Search(
    quantize=ew.Quantization(calibration_samples=128), training=TRAINING, samples=128,
    candidates=3, quantized_training=ew.Training(
        time=60, batch_size=64, lr=0.002, weight_decay=1e-5, clip_norm=1.0, augment=False))


def main() -> None:
    """Train, search, print; the exit code is 3 if the budget is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    out: Path = parser.parse_args().out
    warnings.filterwarnings("ignore", category=FutureWarning)
    since = time.perf_counter()
    task = load_task("digits", seed=SEED)
    print(f"teacher: a residual network, trained on {len(task.train)} digits", file=sys.stderr)
    torch.manual_seed(SEED)
    untrained = ew.Program.capture(digits_resnet(), task.train.example(2))
    training = ew.Training(epochs=20, time=50, batch_size=64, augment=False)
    teacher = ew.fit(untrained, task, training, seed=SEED, progress=RichProgress("teacher"))
    left = SECONDS - (time.perf_counter() - since)
    result = ew.compress(teacher, task, BUDGET, out=out, time=left, search=SEARCH, seed=SEED,
                         name="digits_resnet")
    console = Console()
    console.print(summary_table(result.manifest))
    console.print(f"{time.perf_counter() - since:.0f} s in all\nbundle: {result.bundle}\n"
                  f"report: {result.report}", highlight=False)
    result.check()


def _report(error: ew.EdgewrightError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except ew.EdgewrightError as error:
        sys.exit(_report(error))
