"""`compress`: a recipe, or a search for the best file under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from torch import nn

from edgewright.core import Budget, Limit
from edgewright.distill import TeacherLike, compile_teacher
from edgewright.errors import UsageError
from edgewright.pipeline import (
    Recipe,
    Result,
    RunLog,
    RunSettings,
    capture_original,
    run_recipe,
)
from edgewright.program import Program
from edgewright.search._config import Search
from edgewright.search._executor import Executor, InProcess
from edgewright.search._prepare import open_search
from edgewright.search._ray import connect
from edgewright.search._searcher import SearchPlan
from edgewright.search._time_budget import parse_time
from edgewright.task import Task
from edgewright.training import ExperimentTracker, open_experiment_tracker

DEFAULT_TIME: Final = "20m"


def compress(model: nn.Module | Program, task: Task, budget: Budget | None = None,  # noqa: PLR0913
             recipe: Recipe | str | None = None, out: str | Path | None = None, *,
             rate: float | None = None, time: str | float | None = None,
             search: Search | None = None, ray: str | None = None, store: str | None = None,
             ignore: Sequence[str] = (), seed: int = 0, name: str | None = None,
             quiet: bool = False, track: ExperimentTracker | None = None,
             teacher: TeacherLike | None = None, command: str = "repeat the call") -> Result:
    """Compress a trained model to one file that meets a budget, measured on its runtime.

    With a recipe, the recipe is run. With a budget and no recipe, the best candidate within
    ``time`` is searched, see `Search`: the one with the best metric within the limits on size,
    memory, multiply-accumulates, latency and energy, or the smallest if only metrics are limited,
    as in ``Budget(max_drop="1 %")``. With neither, the recipe ``balanced`` is run.

    The run directory stores every stage. Repeating the call resumes an interrupted run; a recipe
    then gives the same model files (except that GPU kernels may round differently from run to run).

    Args:
        model: A trained module, or a program captured from one. A module is called with the task's
            inputs in their order, or by name if its forward pass has arguments of these names.
        task: The data. Nothing is selected on the test split.
        budget: Limits on the file; see `Budget`.
        recipe: A recipe's name, a YAML file's path, or a `Recipe`. ``fast`` does not train and
            takes minutes; ``balanced`` trains for some epochs; choose ``thorough`` if accuracy
            matters more than training time. None searches.
        out: The run directory; ``runs/NAME`` by default.
        rate: Share of the original's bytes to save, between 0 and 1; a shorthand for a budget on
            size.
        time: How long a search may take, as in ``60m`` or in seconds; 20 minutes by default. More
            time gives a better file.
        search: Settings of the search.
        ray: Build the candidates of a search on many machines: ``HOST:PORT`` of a Ray cluster, or
            ``local`` for the cores of this machine. Latencies are measured on this machine.
        store: URL of the database of a search's trials, for example
            ``postgresql://USER@HOST/DATABASE``; by default an SQLite file in ``out``.
        ignore: Layers whose output channels must not be pruned, by name or pattern.
        seed: Seed of all random numbers.
        name: Name of the model in records; its class name by default.
        quiet: Print nothing.
        track: Log every training's loss, accuracy and learning rate to ``tensorboard`` (in
            ``out``/tensorboard) or ``mlflow`` (configured by its environment variables).
        teacher: The teacher of every training, with the same inputs and predictions: a program, a
            module, a file, a model reference, or several of these; see `edgewright.fit`. Give one
            that is better than the model, if there is one. None for the model itself.
        command: What continues an interrupted search, for its report.

    Returns:
        The result, even if the budget is not met: see
        ``result.manifest.report.breaches`` and `Result.check`.

    Raises:
        UsageError: Arguments that contradict each other or are out of range.
        ModelError: The model cannot be captured or exported.
        DataError: The data cannot be used.
        BudgetError: A limit is below what the smallest program of this model needs.
        ParityError: The file's outputs differ from the program's.
        StorageError: The directory holds another run, the disk is full, or the database cannot be
            reached or is locked.
        InputError: The Ray cluster cannot be reached.
        MissingExtraError: The tracker, Ray or the driver of the database is not installed.
        SearchInterrupted: A `KeyboardInterrupt` after which the best file so far was published.

    Example:
        >>> import tempfile, torch
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
    name = name or type(model).__name__
    folder = Path("runs", name.lower()) if out is None else Path(out)
    if recipe is not None or not budget.limits_anything:
        _refuse_search_settings(recipe, time=time, search=search, ray=ray, store=store)
        return run_recipe(model, task, recipe or "balanced", folder, budget, ignore=ignore,
                          seed=seed, name=name, quiet=quiet, track=track, teacher=teacher)
    if ray is not None and track is not None:
        raise UsageError(f"track={track!r} is not supported with ray: trainings run in other "
                         "processes; omit one of the two")
    log = RunLog(quiet, None if track is None else open_experiment_tracker(track, folder))
    seconds = _seconds(time)
    settings, config = _settings(model, task, budget, search, ignore, seed, name, log, teacher)
    with (_open_executor(ray, log) as executor,
          open_search(settings, config, folder, seconds, executor, store, command) as opened):
        return opened.run()


def plan(model: nn.Module | Program, task: Task, budget: Budget,  # noqa: PLR0913
         out: str | Path, *, time: str | float | None = None, search: Search | None = None,
         ray: str | None = None, store: str | None = None, ignore: Sequence[str] = (),
         seed: int = 0, name: str | None = None, quiet: bool = False,
         teacher: TeacherLike | None = None) -> SearchPlan:
    """What `compress` would search, without training anything.

    The original and its quantized form are exported and measured, and damages are predicted; a
    search in the same directory takes them from there.

    Args:
        model: See `compress`, like all other arguments.
        task: The data.
        budget: The limits, at least one.
        out: The run directory.
        time: How long the search may take.
        search: Settings of the search.
        ray: The Ray cluster that would build candidates.
        store: URL of the database of the trials.
        ignore: Layers whose output channels must not be pruned, by name or pattern.
        seed: Seed of all random numbers.
        name: Name of the model in records.
        quiet: Print nothing.
        teacher: See `compress`.

    Raises:
        UsageError: The budget limits nothing.
        BudgetError: A limit is below what the smallest program of this model needs.
    """
    if not budget.limits_anything:
        raise UsageError("there is nothing to plan: the budget limits nothing; give size, ram, "
                         "latency, macs, energy or drop")
    seconds, log = _seconds(time), RunLog(quiet)
    settings, config = _settings(model, task, budget, search, ignore, seed,
                                 name or type(model).__name__, log, teacher)
    with (_open_executor(ray, log) as executor,
          open_search(settings, config, Path(out), seconds, executor, store) as opened):
        return opened.plan()


def _open_executor(ray: str | None, log: RunLog) -> AbstractContextManager[Executor]:
    return nullcontext(InProcess()) if ray is None else connect(ray, log)


def _seconds(time: str | float | None) -> float:
    return parse_time(DEFAULT_TIME if time is None else time)


def _settings(model: nn.Module | Program, task: Task, budget: Budget,  # noqa: PLR0913, PLR0917
              search: Search | None, ignore: Sequence[str], seed: int, name: str,
              log: RunLog, teacher: TeacherLike | None) -> tuple[RunSettings, Search]:
    budget.check_metrics(task.metrics)
    config, original = search or Search(), capture_original(model, task, seed)
    taught_by = compile_teacher(original if teacher is None else teacher, task.train.example(2))
    return (RunSettings(original, task, budget, seed, name, log, taught_by),
            config.replace(ignore=(*config.ignore, *ignore)))


def _resolve_budget(budget: Budget | None, rate: float | None) -> Budget:
    budget = budget or Budget()
    if rate is None:
        return budget
    if budget.size is not None:
        raise UsageError(f"rate={rate} and a budget on size both limit the size; give only one")
    if not 0 < rate < 1:
        raise UsageError(f"rate must be above 0 and below 1, got {rate}")
    return budget.replace(size=Limit(value=1 - rate, relative=True))


def _refuse_search_settings(recipe: Recipe | str | None, **settings: object) -> None:
    """Raise if settings of a search are given, but nothing is searched."""
    given = [name for name, value in settings.items() if value is not None]
    if not given:
        return
    reason = ("there is no budget" if recipe is None
              else f"the recipe {recipe.name if isinstance(recipe, Recipe) else recipe!r} is run")
    raise UsageError(f"{' and '.join(given)} is for a search, but {reason}; give a budget on size, "
                     "ram, latency, macs, energy or drop and no recipe")
