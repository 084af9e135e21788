"""`compress`: make one verified file from a model, its data and a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import nn

from edgewright.bundle import read_bundle
from edgewright.core import Budget, Limit, Manifest, format_metric, format_size
from edgewright.errors import BudgetError, UsageError
from edgewright.exits import remove_exits
from edgewright.pipeline._assemble import Assembly
from edgewright.pipeline._capture_model import capture_model
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._identity import run_identity
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline._run_stages import run_stages
from edgewright.pipeline._validate_model import validate_model
from edgewright.pipeline.stages import StageContext, adjust_recipe, check_recipe
from edgewright.program import Program
from edgewright.task import Task, temporary_seed
from edgewright.training import ExperimentTracker, open_experiment_tracker


@final
@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        bundle: Path of ``model.edge``.
        report: Path of ``report.html``.
        manifest: The bundle's manifest.
        program: The compressed program the bundle was exported from.
    """

    bundle: Path
    report: Path
    manifest: Manifest
    program: Program

    def check(self) -> None:
        """Raise if the budget is not met.

        Raises:
            BudgetError: The message lists every broken limit with the figure's value.
        """
        if self.manifest.report.breaches:
            broken = "; ".join(map(str, self.manifest.report.breaches))
            raise BudgetError(f"the budget is not met: {broken}. The bundle is at {self.bundle}, "
                              "marked so; allow more, or try a more thorough recipe")


def compress(model: nn.Module | Program, task: Task, budget: Budget | None = None,  # noqa: PLR0913
             recipe: Recipe | str = "balanced", out: str | Path | None = None, *,
             rate: float | None = None, ignore: Sequence[str] = (), seed: int = 0,
             name: str | None = None, quiet: bool = False,
             track: ExperimentTracker | None = None) -> Result:
    """Compress a trained model to one file that meets a budget, measured on its runtime.

    The run directory stores every stage. Repeating the call resumes an interrupted run and gives
    the same model files (except that GPU kernels may round differently from run to run).

    Args:
        model: A trained module, or a program captured from one. A module is called with the task's
            inputs in their order, or by name if its forward pass has arguments of these names.
        task: The data. Nothing is selected on the test split.
        budget: Limits on the file; see `Budget`. Without a budget the recipe alone decides.
        recipe: A recipe's name, a YAML file's path, or a `Recipe`. ``fast`` does not train and
            takes minutes; ``balanced`` trains for some epochs; choose ``thorough`` if accuracy
            matters more than training time.
        out: The run directory; ``runs/NAME`` by default.
        rate: Share of the original's bytes to save, between 0 and 1; a shorthand for a budget on
            size.
        ignore: Layers whose output channels must not be pruned, by name or pattern.
        seed: Seed of all random numbers.
        name: Name of the model in records; its class name by default.
        quiet: Print nothing.
        track: Log every training's loss, accuracy and learning rate to ``tensorboard`` (in
            ``out``/tensorboard) or ``mlflow`` (configured by its environment variables).

    Returns:
        The result, even if the budget is not met: see
        ``result.manifest.report.breaches`` and `Result.check`.

    Raises:
        UsageError: Arguments that contradict each other or are out of range.
        ModelError: The model cannot be captured or exported.
        DataError: The data cannot be used.
        BudgetError: A limit is below what the smallest program of this model needs.
        ParityError: The file's outputs differ from the program's.
        StorageError: The directory holds another run, or the disk is full.
        MissingExtraError: The tracker is not installed.

    Example:
        >>> import tempfile, torch
        >>> from edgewright.pipeline import Recipe
        >>> x, y = torch.randn(200, 8), torch.arange(200) % 3
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(),
        ...                             torch.nn.Linear(32, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = compress(model, Task((x, y), test=(x, y)), recipe="fast",
        ...                       out=f"{folder}/run", quiet=True)
        ...     result.manifest.report.parity.agreement > 0.9
        True
    """
    budget = _resolve_budget(budget, rate)
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    recipe = _add_ignore_patterns(recipe, ignore)
    name = name or type(model).__name__
    folder = Path("runs", name.lower()) if out is None else Path(out)
    log = RunLog(quiet, None if track is None else open_experiment_tracker(track, folder))
    with temporary_seed(seed):
        original = model if isinstance(model, Program) else capture_model(model, task)
    budget.check_metrics(task.metrics)
    original = validate_model(original, task)
    check_recipe(recipe, original)
    adjusted, changes = adjust_recipe(recipe, original, budget, task.goal)
    run = RunDirectory.open(folder, run_identity(original, task, budget, recipe, seed))
    assembly = Assembly(task, budget, recipe, adjusted.exits, seed, name)
    return _execute(assembly, StageContext(original, task, adjusted, seed, run, log), changes)


def _execute(assembly: Assembly, context: StageContext, changes: tuple[str, ...]) -> Result:
    """Run baseline, stages and bundle; intact results of an earlier run are reused."""
    run, log, original = context.directory, context.log, context.original
    if not run.is_sealed(run.baseline):
        log.begin("baseline", "the original on its runtime")
        with temporary_seed(assembly.seed):
            manifest = assembly.baseline(original, run.baseline)
        run.seal(run.baseline)
        figures = manifest.report.compressed
        metrics = ", ".join(f"{metric.name} {format_metric(metric.spec, metric.value)}"
                            for metric in figures.metrics)
        log.note(f"{metrics} (test), {format_size(figures['size_bytes'])}")
    results = run_stages(context, changes)
    if run.is_sealed(run.bundle, results.checksum):
        log.note(f"this run is complete already; its bundle is {run.bundle}")
        manifest = read_bundle(run.bundle).manifest
        assembly.write_beside(manifest, run)
    else:
        with temporary_seed(assembly.seed):
            manifest = assembly.finish(original, results, run, log)
    run.remove_checkpoints()
    has_exits = len(manifest.model.segments) > 1
    return Result(run.bundle, run.report, manifest,
                  results.program if has_exits else remove_exits(results.program))


def _resolve_budget(budget: Budget | None, rate: float | None) -> Budget:
    budget = budget or Budget()
    if rate is None:
        return budget
    if budget.size is not None:
        raise UsageError(f"rate={rate} and a budget on size both limit the size; give only one")
    if not 0 < rate < 1:
        raise UsageError(f"rate must be above 0 and below 1, got {rate}")
    return budget.replace(size=Limit(value=1 - rate, relative=True))


def _add_ignore_patterns(recipe: Recipe, ignore: Sequence[str]) -> Recipe:
    if not ignore:
        return recipe
    if recipe.prune is None:
        raise UsageError(f"ignore={list(ignore)} concerns pruning, but the recipe {recipe.name!r} "
                         "does not prune; omit it or choose another recipe")
    patterns = (*recipe.prune.ignore, *ignore)
    return recipe.replace(prune=recipe.prune.replace(ignore=patterns))
