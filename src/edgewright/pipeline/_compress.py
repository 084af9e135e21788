"""`compress`: make one verified file from a model, its data and a budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from edgewright.core import Budget, Limit
from edgewright.errors import UsageError
from edgewright.pipeline._capture_model import capture_model
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._run import Result, Run, RunSettings
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline._validate_model import validate_model
from edgewright.program import Program
from edgewright.task import Task, temporary_seed
from edgewright.training import ExperimentTracker, open_experiment_tracker


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
    budget.check_metrics(task.metrics)
    settings = RunSettings(capture_original(model, task, seed), task, budget, seed, name, log)
    run = Run.open(settings, recipe, folder)
    run.measure_baseline()
    return run.finish(run.build())


def capture_original(model: nn.Module | Program, task: Task, seed: int) -> Program:
    """The program of a model, validated against the task.

    Raises:
        ModelError: The model cannot be captured, or its outputs do not fit the goal.
        DataError: The data cannot be used.
    """
    with temporary_seed(seed):
        original = model if isinstance(model, Program) else capture_model(model, task)
    return validate_model(original, task)


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
