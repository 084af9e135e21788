"""Preparing a search: the original, its quantized form, and the predicted damages."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from edgewright.bundle import read_bundle
from edgewright.core import Budget, Figures, Limit, Measurement, format_metric
from edgewright.pipeline import (
    QuietTimer,
    Recipe,
    Run,
    RunDirectory,
    RunSettings,
    evaluate_operating_point,
    run_identity,
)
from edgewright.runtime import Session
from edgewright.search._builder import Builder
from edgewright.search._candidate import Candidate
from edgewright.search._config import Search
from edgewright.search._damages import measure_damages
from edgewright.search._distillation import choose_distillation
from edgewright.search._executor import Executor
from edgewright.search._judge import AgreementJudge, can_mix, is_flattered
from edgewright.search._metric_limits import MetricLimits
from edgewright.search._planner import Planner
from edgewright.search._progress import SearchProgress
from edgewright.search._publish import Publisher, keep_best
from edgewright.search._ranking import Ranking
from edgewright.search._recipes import write_recipe
from edgewright.search._record import keep_facts
from edgewright.search._searcher import Searcher
from edgewright.search._space import make_space
from edgewright.search._storage import locate_store, remember_store
from edgewright.search._store import Sampler, TrialStore
from edgewright.search._time_budget import TimeBudget
from edgewright.search._trial import Trial
from edgewright.search._trial_maker import TrialMaker
from edgewright.timing import measure_layers, time_in_integers

_QUANTIZED: Final = "quantized"
_GROWTH: Final = 512  # bytes of parity, latencies and the original's figures, compressed
_VARIATION: Final = 0.02  # of a latency, between two measurements on a quiet machine
_WAITING_SHARE: Final = 0.05  # of the time, for measuring latencies again on a busy machine
_FINISHES: Final = 1.5  # times that the baseline's measurement takes are kept for finishing


@contextmanager
def open_search(settings: RunSettings, config: Search, folder: Path, seconds: float,
                executor: Executor, store: str | None = None,
                command: str | None = None) -> Iterator[Searcher]:
    """Open a search's directory, and measure what every candidate is compared with.

    The progress is shown until the block is left.

    Args:
        settings: Model, data, budget and seed.
        config: The settings of the search.
        folder: Its directory; an interrupted search in it goes on.
        seconds: The time for the whole search.
        executor: Builds candidates.
        store: URL of the database for the trials; None for the one used so far, or else an SQLite
            file in the directory.
        command: What continues it, for the report of an interrupted one; None publishes nothing.

    Raises:
        StorageError: The directory holds another run, or the storage cannot be reached.
        InputError: A worker finds another model, data, settings or versions.
        SearchInterrupted: It was interrupted; the best file so far is published.
    """
    since, log, budget = clock.monotonic(), settings.log, settings.budget
    identity = run_identity(settings.original, settings.task, budget, config, settings.seed,
                            settings.teacher_name)
    directory = RunDirectory.open(folder, identity)
    trials = open_store(folder, store, settings.seed, config.sampler,
                        shrinks=not budget.limits_costs)
    executor.prepare(settings, config, identity)
    time = TimeBudget(seconds, used=trials.seconds + clock.monotonic() - since)
    quantized = write_recipe(_QUANTIZED, None, config)
    with SearchProgress.open(log, time, trials) as progress:
        progress.begin("prepare")
        builder = make_builder(settings, folder, quantized,
                               0.0 if budget.latency is None else _WAITING_SHARE * seconds)
        if builder.judge is not None:
            config = config.keep_last_epochs()
        if config.distillation is None:
            config = config.replace(distillation=choose_distillation(settings))
        finish_seconds = trials.remember("seconds to finish",
                                         _FINISHES * (clock.monotonic() - since))
        publisher = Publisher(directory, trials, builder, progress, command or "")
        guard: AbstractContextManager[None] = nullcontext() if command is None else keep_best(
            publisher, lambda: _only(trials))
        with guard:
            planner = make_planner(config, builder, trials, progress, quantized)
            keep_facts(trials, builder, planner.space, seconds)
        ranking = Ranking(planner.budget, builder.original, trials, None if budget.limits_costs else
                          MetricLimits(budget, builder.original, builder.validated))
        maker = TrialMaker(builder, executor, trials, ranking, progress, log)
        yield Searcher(builder, maker, planner, config, trials, time, log, publisher, progress,
                       ranking, finish_seconds, executor.workers)


def open_store(folder: Path, url: str | None, seed: int, sampler: Sampler = "gp", *,
               shrinks: bool = False) -> TrialStore:
    """Open the storage of a search's trials, and note in its directory where it is."""
    location = locate_store(folder, url)
    store = TrialStore(location, seed, sampler, shrinks=shrinks)
    if url is not None:
        remember_store(folder, location)
    return store


def leave_room(budget: Budget, original: Figures) -> Budget:
    """The budget for candidates, so that the result is still within the budget when it is verified.

    Files grow by what the test adds to their manifests, and latencies vary from one measurement to
    the next.

    Example:
        >>> leave_room(Budget(size="10 kB"), Figures()).size.value
        9488.0
    """
    limits = budget.limits(original)
    if budget.size is not None:
        budget = budget.replace(size=Limit(value=max(1.0, limits["size"].bound - _GROWTH)))
    if budget.latency is not None:
        budget = budget.replace(latency=Limit(value=limits["latency"].bound * (1 - _VARIATION)))
    return budget


def _only(store: TrialStore) -> list[Trial]:
    """The quantized original, until there is another trial to compare it with."""
    trials = store.trials()
    return trials if len(trials) == 1 else []


def make_builder(settings: RunSettings, folder: Path, quantized: Recipe,
                 patience: float) -> Builder:
    """Measure the original, unless that is done, and choose how candidates are compared.

    Args:
        settings: Model, data, budget and seed.
        folder: The search's directory.
        quantized: The recipe that quantizes the original.
        patience: Seconds for measuring latencies again on a busy machine.
    """
    task, log = settings.task, settings.log
    run = Run.open(settings, quantized, folder / "trials" / _QUANTIZED, adjust=False)
    tested = run.measure_baseline().report.compressed
    baseline = run.context.directory.baseline
    session = Session(read_bundle(baseline))
    timer = QuietTimer(session, patience, log)
    latency = timer.time_original(task.val)
    validated = Figures.of(*evaluate_operating_point(session, task.val, task.goal)[0].metrics)
    judge = None
    if is_flattered(validated.metric, tested.metric) and can_mix(task.val):
        judge = AgreementJudge(session, task, settings.seed)
        log.note(f"{_format(validated.metric)} on the validation split, {_format(tested.metric)} "
                 "on the test split: the model was probably trained on the validation samples; "
                 "candidates are compared by their agreement with it on mixtures of them")
    return Builder(settings, folder, baseline, timer, tested.with_(*latency), validated, judge)


def _format(metric: Measurement | None) -> str:
    return "" if metric is None else f"{metric.name} {format_metric(metric.spec, metric.value)}"


def make_planner(config: Search, builder: Builder, store: TrialStore, progress: SearchProgress,
                 quantized: Recipe) -> Planner:
    """Measure the quantized original and predict the damages, unless that is done."""
    settings, folder = builder.settings, builder.folder
    log, budget = settings.log, settings.budget
    trial = next((one for one in store.trials() if one.name == _QUANTIZED), None)
    if trial is None:
        candidate = Candidate(name=_QUANTIZED, recipe=quantized, scores_stages=True)
        trial = builder.measure(candidate, builder.build(candidate))
    store.add(trial)
    progress.show_best(trial, [trial])
    progress.begin("sensitivities")
    log.begin("sensitivities", f"on {config.samples} training samples")
    space = make_space(settings.original, config.quantize, config.ignore)
    damages = measure_damages(space, settings.task, config.quantize, samples=config.samples,
                              seed=settings.seed, path=folder / "damages.json")
    latency = None
    if budget.latency is not None:
        latency = measure_layers(space.program, space.groups, trial.figures["latency_ms"],
                                 path=folder / "latencies.json", timer=time_in_integers)
    planner = Planner(space, damages, leave_room(budget, builder.original), builder.original,
                      latency)
    store.add(trial.replace(predicted=planner.predict_unchanged()))
    return planner
