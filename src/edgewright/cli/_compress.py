"""``edgewright compress``."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from edgewright.cli._refs import load_reference
from edgewright.core import Budget, format_cost
from edgewright.errors import UsageError

if TYPE_CHECKING:
    from edgewright.pipeline import Result
    from edgewright.search import SearchInterrupted, SearchPlan
    from edgewright.training import ExperimentTracker


def compress(  # noqa: PLR0913, PLR0917 - one parameter per option
    model: Annotated[str, typer.Option(help="package.module:factory, file.py:factory, timm:NAME, "
                                            "torchvision:NAME, or a saved program (.pt2).")],
    data: Annotated[str, typer.Option(help="digits, cifar10[:DIR], hf:NAME, parquet:DIR, "
                                           "imagefolder:DIR, or file.py:factory.")],
    out: Annotated[Path, typer.Option(help="Run directory; an interrupted run in it resumes.")],
    weights: Annotated[Path | None, typer.Option(
        help="Weights, .safetensors or a state dict (.pt).")] = None,
    normalize: Annotated[str | None, typer.Option(
        help="imagenet, or MEAN,STD per channel (m,m,m,s,s,s); default: computed on the training "
             "split.")] = None,
    budget: Annotated[str, typer.Option(
        help="size=100kB,ram=64KiB,latency=2ms,macs=30M,energy=1mJ,drop=0.5%,accuracy>=90%; "
             "drop is that of the task's primary metric; percentages of costs are relative to the "
             "original.")] = "",
    recipe: Annotated[str | None, typer.Option(
        help="fast, balanced, thorough, or a YAML file. Without one, a budget starts a search, "
             "and without a budget balanced is run.")] = None,
    time: Annotated[str | None, typer.Option(
        help="How long a search may take: 20m, 90s, 1h; more time gives a better file. Default: "
             "20m.")] = None,
    ray: Annotated[str | None, typer.Option(
        metavar="ADDRESS", help="Build the candidates of a search on a Ray cluster: HOST:PORT of "
                                "its head, or local for the cores of this machine.")] = None,
    teacher: Annotated[str | None, typer.Option(
        help="A better model than this one to learn from, as for --model, or a file (.pt2, .onnx, "
             ".edge); default: the model itself.")] = None,
    store: Annotated[str | None, typer.Option(
        metavar="URL", help="Database of a search's trials, such as "
                            "postgresql://USER@HOST/DATABASE; default: an SQLite file in OUT.",
        )] = None,
    ignore: Annotated[list[str] | None, typer.Option(
        help="A layer (or pattern) whose output channels are not pruned; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")] = 0,
    track: Annotated[str | None, typer.Option(
        help="Log training metrics to tensorboard (in OUT/tensorboard) or mlflow.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the table.")] = False,
    dry_run: Annotated[bool, typer.Option(
        "--dry-run", help="Print what a search would build and what it predicts; train nothing."),
        ] = False,
) -> None:
    """Compress a trained model into one file that meets a budget.

    The baseline and the result are exported and measured on ONNX Runtime; the test split is used
    only for measuring. A bundle that exceeds its budget is still written, and the exit code is 3.

    With a budget and no recipe, blocks, widths and bits are chosen together by a search that
    builds, trains and measures candidates in the given time. If only metrics are limited, as in
    drop=1%, it looks for the smallest file.

    Examples:
      edgewright compress --model net.py:make --data digits --budget size=20%,latency=50%
      --time 20m --out runs/digits

      edgewright compress --model torchvision:resnet18 --weights w.safetensors
      --data imagefolder:photos --budget size=3MB,drop=1% --out runs/photos

      edgewright compress --model net.py:make --data digits --recipe fast --out runs/digits

      edgewright compress --model net.py:make --data digits --budget size=20% --ray local
      --store postgresql://ann@db.example/trials --out runs/digits
    """
    limits = Budget.parse(budget)
    from edgewright.pipeline import Recipe
    from edgewright.search import SearchInterrupted
    from edgewright.search import compress as run_compress
    from edgewright.task import load_task

    chosen = None if recipe is None else Recipe.load(recipe)
    loaded = load_reference(model, weights)
    task = load_task(data, normalize=normalize, seed=seed)
    if dry_run:
        _refuse_recipe(recipe)
        from edgewright.search import plan

        _print_plan(plan(loaded, task, limits, out, time=time, ray=ray, store=store,
                         ignore=ignore or (), seed=seed, name=model, quiet=quiet,
                         teacher=teacher))
        return
    try:
        result = run_compress(loaded, task, limits, chosen, out, time=time, ray=ray, store=store,
                              ignore=ignore or (), seed=seed, name=model, quiet=quiet,
                              teacher=teacher, command=_this_command(),
                              # other names are rejected there
                              track=cast("ExperimentTracker | None", track))
    except SearchInterrupted as best:
        _print_result(best)
        raise
    _print_result(result)
    result.check()


def _this_command() -> str:
    return shlex.join(["edgewright", *sys.argv[1:]])


def _print_result(result: Result | SearchInterrupted) -> None:
    from edgewright.report import summary_table

    console = Console()
    console.print(summary_table(result.manifest))
    console.print(f"bundle: {result.bundle}\nreport: {result.report}", highlight=False,
                  soft_wrap=True)


def _refuse_recipe(recipe: str | None) -> None:
    if recipe is not None:
        raise UsageError(f"--dry-run plans a search, but the recipe {recipe} would be run; omit "
                         "one of the two")


def _print_plan(found: SearchPlan) -> None:
    """Print the predicted costs of the first answers, and the rounds."""
    console = Console(highlight=False)
    table = Table("Answer", "Predicted", "Blocks removed", "Groups narrowed", "Bits", box=None)
    for number, answer in enumerate(found.answers, 1):
        bits = Counter(answer.bits.values())
        costs = ", ".join(f"{name} {format_cost(name, value)}"
                          for name, value in answer.costs.items())
        table.add_row(str(number), costs,
                      ", ".join(answer.removed) or "none", str(len(answer.widths)),
                      ", ".join(f"{count} x {size}" for size, count in sorted(bits.items())))
    console.print(table)
    for number, one in enumerate(found.rounds, 1):
        console.print(f"round {number}: {one.candidates} candidate(s), "
                      f"{one.training_seconds:.0f} s of training each")
    console.print(f"{found.seconds:.0f} s are left, {found.finish_seconds:.0f} s of them for "
                  "verifying the result; the rest trains the best candidate")
