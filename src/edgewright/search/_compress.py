"""`compress`: a recipe, or a search for the best file under a budget."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from torch import nn

from edgewright.bundle import read_bundle
from edgewright.core import Budget, Limit, Measurement, format_metric, write_atomically
from edgewright.errors import UsageError
from edgewright.pipeline import (
    Recipe,
    Result,
    Run,
    RunDirectory,
    RunLog,
    RunSettings,
    capture_original,
    evaluate_operating_point,
    run_identity,
    run_recipe,
    time_sessions,
)
from edgewright.program import Program
from edgewright.runtime import Session
from edgewright.search._builder import Builder
from edgewright.search._config import Search
from edgewright.search._damages import measure_damages
from edgewright.search._judge import AgreementJudge, can_mix, is_flattered
from edgewright.search._planner import Planner
from edgewright.search._recipes import write_recipe
from edgewright.search._searcher import Searcher
from edgewright.search._space import make_space
from edgewright.search._store import TrialStore, database_url
from edgewright.search._time_budget import TimeBudget, parse_time
from edgewright.task import Task
from edgewright.timing import measure_layers, time_in_integers
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
    time = TimeBudget(seconds, used=store.seconds + clock.monotonic() - since)
    quantized = write_recipe("quantized", None, config)
    builder = make_builder(settings, folder, quantized)
    baseline_seconds = clock.monotonic() - since
    planner = make_planner(settings, config, folder, builder, store, quantized)
    result = Searcher(builder, planner, config, store, time, settings.log,
                      finish_seconds=_FINISHES * baseline_seconds).run()
    return publish(result, directory)


def publish(result: Result, directory: RunDirectory) -> Result:
    """Copy the files of the best candidate to the search's directory."""
    source = result.bundle.parent
    for file in (directory.bundle, directory.manifest, directory.recipe, directory.report):
        write_atomically(file, (source / file.name).read_bytes())
    directory.seal(directory.bundle)
    return replace(result, bundle=directory.bundle, report=directory.report)


def make_builder(settings: RunSettings, folder: Path, quantized: Recipe) -> Builder:
    """Measure the original, unless that is done, and choose how candidates are compared."""
    task, log = settings.task, settings.log
    run = Run.open(settings, quantized, folder / "trials" / "quantized", adjust=False)
    tested = run.measure_baseline().report.compressed
    baseline = run.context.directory.baseline
    session = Session(read_bundle(baseline))
    latency = time_sessions({"original": session}, task.val)["original"]
    validated = evaluate_operating_point(session, task.val, task.goal)[0].metric
    judge = None
    if is_flattered(validated, tested.metric) and can_mix(task.val):
        judge = AgreementJudge(session, task, settings.seed)
        log.note(f"{_format(validated)} on the validation split, {_format(tested.metric)} on the "
                 "test split: the model was probably trained on the validation samples; candidates "
                 "are compared by their agreement with it on mixtures of them")
    return Builder(settings, folder, baseline, session, tested.with_(*latency), judge)


def _format(metric: Measurement | None) -> str:
    return "" if metric is None else f"{metric.name} {format_metric(metric.spec, metric.value)}"


def make_planner(settings: RunSettings, config: Search, folder: Path, builder: Builder,
                 store: TrialStore, quantized: Recipe) -> Planner:
    """Measure the quantized original and predict the damages, unless that is done."""
    log, budget = settings.log, settings.budget
    trial = builder.build("quantized", quantized)
    log.begin("sensitivities", f"on {config.samples} training samples")
    space = make_space(settings.original, config.quantize, config.ignore)
    damages = measure_damages(space, settings.task, config.quantize, samples=config.samples,
                              seed=settings.seed, path=folder / "damages.json")
    latency = None
    if budget.latency is not None:
        latency = measure_layers(space.program, space.groups, trial.figures["latency_ms"],
                                 path=folder / "latencies.json", timer=time_in_integers)
    planner = Planner(space, damages, budget, builder.original, latency)
    store.add(trial.replace(predicted=planner.predict_unchanged()))
    return planner


def _resolve_budget(budget: Budget | None, rate: float | None) -> Budget:
    budget = budget or Budget()
    if rate is None:
        return budget
    if budget.size is not None:
        raise UsageError(f"rate={rate} and a budget on size both limit the size; give only one")
    if not 0 < rate < 1:
        raise UsageError(f"rate must be above 0 and below 1, got {rate}")
    return budget.replace(size=Limit(value=1 - rate, relative=True))


def _refuse_search_settings(recipe: Recipe | str | None, time: str | float | None,
                            search: Search | None) -> None:
    """Raise if settings of a search are given, but nothing is searched."""
    given = [name for name, value in (("time", time), ("search", search)) if value is not None]
    if not given:
        return
    reason = ("the budget limits no cost" if recipe is None
              else f"the recipe {recipe.name if isinstance(recipe, Recipe) else recipe!r} is run")
    raise UsageError(f"{' and '.join(given)} is for a search, but {reason}; give a budget on size, "
                     "ram, latency, macs or energy and no recipe")
