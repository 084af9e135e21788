"""`compress`: a recipe, or a search for the best file under a budget."""

from __future__ import annotations

import shutil
import time as clock
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from torch import nn

from edgewright.bundle import read_bundle
from edgewright.core import Budget, Limit
from edgewright.errors import UsageError
from edgewright.pipeline import (
    Recipe,
    Result,
    RunDirectory,
    RunLog,
    RunSettings,
    capture_original,
    run_identity,
    run_recipe,
)
from edgewright.program import Program
from edgewright.search._builder import Builder
from edgewright.search._config import Search
from edgewright.search._damages import measure_damages
from edgewright.search._planner import Planner
from edgewright.search._recipes import write_recipe
from edgewright.search._searcher import Searcher
from edgewright.search._space import make_space
from edgewright.search._store import TrialStore, database_url
from edgewright.search._time_budget import TimeBudget, parse_time
from edgewright.task import Task
from edgewright.training import ExperimentTracker, open_experiment_tracker

DEFAULT_TIME: Final = "20m"
_FINISHES: Final = 4  # the time of the baseline's measurement that is kept for finishing


def compress(model: nn.Module | Program, task: Task, budget: Budget | None = None,  # noqa: PLR0913
             recipe: Recipe | str | None = None, out: str | Path | None = None, *,
             rate: float | None = None, time: str | float | None = None,
             search: Search | None = None, ignore: Sequence[str] = (), seed: int = 0,
             name: str | None = None, quiet: bool = False,
             track: ExperimentTracker | None = None) -> Result:
    """Compress a trained model to one file that meets a budget, measured on its runtime.

    With a recipe, the recipe is run. With a limit on size, memory, multiply-accumulates, latency
    or energy and no recipe, the best candidate within ``time`` is searched: see `Search`. With
    neither, the recipe ``balanced`` is run.

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
    if recipe is not None or not budget.limits_costs:
        _refuse_search_settings(recipe, time, search)
        return run_recipe(model, task, recipe or "balanced", folder, budget, ignore=ignore,
                          seed=seed, name=name, quiet=quiet, track=track)
    budget.check_metrics(task.metrics)
    log = RunLog(quiet, None if track is None else open_experiment_tracker(track, folder))
    seconds = parse_time(DEFAULT_TIME if time is None else time)
    settings = RunSettings(capture_original(model, task, seed), task, budget, seed, name, log)
    config = search or Search()
    config = config.replace(ignore=(*config.ignore, *ignore))
    return run_search(settings, config, folder, seconds)


def run_search(settings: RunSettings, config: Search, folder: Path, seconds: float) -> Result:
    """Search for the best file within a budget and a time.

    Args:
        settings: Model, data, budget and seed.
        config: The settings of the search.
        folder: Its directory; an interrupted search in it goes on.
        seconds: The time for the whole search.

    Raises:
        BudgetError: No candidate can meet the limits on costs.
        StorageError: The directory holds another run, or the storage cannot be reached.
    """
    since = clock.monotonic()
    directory = RunDirectory.open(folder, run_identity(
        settings.original, settings.task, settings.budget, config, settings.seed))
    store = TrialStore(database_url(folder), settings.seed)
    store.abandon_unfinished()
    time = TimeBudget(seconds, used=store.seconds + clock.monotonic() - since)
    measured = clock.monotonic()
    baseline = Run.measure(...)
