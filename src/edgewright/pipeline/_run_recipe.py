"""`run_recipe`: make one verified file by a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from edgewright.core import Budget
from edgewright.distill import TeacherLike, as_teacher
from edgewright.errors import UsageError
from edgewright.pipeline._capture_model import capture_model
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._run import Result, Run, RunSettings
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline._validate_model import validate_model
from edgewright.program import Program
from edgewright.task import Task, temporary_seed
from edgewright.training import ExperimentTracker, open_experiment_tracker


def run_recipe(model: nn.Module | Program, task: Task, recipe: Recipe | str,  # noqa: PLR0913
               folder: Path, budget: Budget | None = None, *, ignore: Sequence[str] = (),
               seed: int = 0, name: str = "", quiet: bool = False,
               track: ExperimentTracker | None = None,
               teacher: TeacherLike | None = None) -> Result:
    """Run a recipe, adjusted to a model and a budget.

    Args:
        model: A trained module, or a program captured from one.
        task: The data. Nothing is selected on the test split.
        recipe: A recipe's name, a YAML file's path, or a `Recipe`.
        folder: The run directory; an interrupted run in it resumes.
        budget: Limits on the file.
        ignore: Layers whose output channels must not be pruned, by name or pattern.
        seed: Seed of all random numbers.
        name: Name of the model in records; its class name if empty.
        quiet: Print nothing.
        track: Where trainings are logged.
        teacher: The teacher of every training; see `edgewright.fit`. None for the original.

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
        >>> x, y = torch.randn(200, 8), torch.arange(200) % 3
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(),
        ...                             torch.nn.Linear(32, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = run_recipe(model, Task((x, y), test=(x, y)), "fast", Path(folder, "run"),
        ...                         quiet=True)
        ...     result.manifest.report.parity.agreement > 0.9
        True
    """
    budget = budget or Budget()
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    recipe = _add_ignore_patterns(recipe, ignore)
    name = name or type(model).__name__
    log = RunLog(quiet, None if track is None else open_experiment_tracker(track, folder))
    budget.check_metrics(task.metrics)
    settings = RunSettings(capture_original(model, task, seed), task, budget, seed, name, log,
                           None if teacher is None else as_teacher(teacher))
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


def _add_ignore_patterns(recipe: Recipe, ignore: Sequence[str]) -> Recipe:
    if not ignore:
        return recipe
    if recipe.prune is None:
        raise UsageError(f"ignore={list(ignore)} concerns pruning, but the recipe {recipe.name!r} "
                         "does not prune; omit it or choose another recipe")
    patterns = (*recipe.prune.ignore, *ignore)
    return recipe.replace(prune=recipe.prune.replace(ignore=patterns))
