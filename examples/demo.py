"""The main job on the embedded digits: train a teacher, compress it, print the table."""

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
from edgewright.exits import ExitCalibration
from edgewright.report import summary_table
from edgewright.task import load_task
from edgewright.training import RichProgress

SEED = 0
BUDGET = ew.Budget(size="30 %", macs="33 %", energy="50 %", max_drop="1 %", accuracy="90 %")
RECIPE = ew.Recipe(
    name="demo",
    prune=ew.ChannelPruning(criterion="taylor", ratio=0.5, allocation="global", round_to=16,
                            compensate=False),
    recover=ew.Training(epochs=40, batch_size=64, lr=0.05, augment=False),
    exits=ew.EarlyExits(places=2, calibration=ExitCalibration(max_drop=0.0), training=ew.Training(
        epochs=15, batch_size=64, lr=0.02, augment=False)),
    quantize=ew.Quantization(method=ew.QAT(training=ew.Training(
        epochs=3, batch_size=64, lr=0.002, weight_decay=1e-5, clip_norm=1.0, augment=False))),
)


def main() -> None:
    """Train, compress, print; the exit code is 3 if the budget is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    out: Path = parser.parse_args().out
    warnings.filterwarnings("ignore", category=FutureWarning)
    since = time.perf_counter()
    task = load_task("digits", seed=SEED)
    print(f"teacher: a residual network, trained on {len(task.train)} digits", file=sys.stderr)
    torch.manual_seed(SEED)
    untrained = ew.Program.capture(digits_resnet(), task.train.example(2))
    teacher = ew.fit(untrained, task, ew.Training(epochs=20, batch_size=64, augment=False),
                     seed=SEED, progress=RichProgress("teacher"))
    result = ew.compress(teacher, task, BUDGET, RECIPE, out, seed=SEED, name="digits_resnet")
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
