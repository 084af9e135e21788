"""Preparing a search: the original, its quantized form, and the predicted damages."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import Final

from edgewright.bundle import read_bundle
from edgewright.core import Measurement, format_metric
from edgewright.pipeline import (
    Recipe,
    Run,
    RunDirectory,
    RunSettings,
    evaluate_operating_point,
    run_identity,
    time_sessions,
)
from edgewright.runtime import Session
from edgewright.search._builder import Builder
from edgewright.search._candidate import Candidate
from edgewright.search._config import Search
from edgewright.search._damages import measure_damages
from edgewright.search._executor import Executor
from edgewright.search._judge import AgreementJudge, can_mix, is_flattered
from edgewright.search._planner import Planner
from edgewright.search._recipes import write_recipe
from edgewright.search._searcher import Searcher
from edgewright.search._space import make_space
from edgewright.search._storage import locate_store, remember_store
from edgewright.search._store import TrialStore
from edgewright.search._time_budget import TimeBudget
from edgewright.timing import measure_layers, time_in_integers

_QUANTIZED: Final = "quantized"
_FINISHES: Final = 4  # times that the baseline's measurement takes are kept for finishing


def prepare_search(settings: RunSettings, config: Search, folder: Path, seconds: float,
                   executor: Executor, store: str | None = None) -> Searcher:
    """Open a search's directory, and measure what every candidate is compared with.

    Args:
        settings: Model, data, budget and seed.
        config: The settings of the search.
        folder: Its directory; an interrupted search in it goes on.
        seconds: The time for the whole search.
        executor: Builds candidates.
        store: URL of the database for the trials; None for the one used so far, or else an SQLite
            file in the directory.

    Raises:
        StorageError: The directory holds another run, or the storage cannot be reached.
        InputError: A worker finds another model, data, settings or versions.
    """
    since = clock.monotonic()
    identity = run_identity(settings.original, settings.task, settings.budget, config,
                            settings.seed)
    directory = RunDirectory.open(folder, identity)
    trials = open_store(folder, store, settings.seed)
    executor.prepare(settings, config, identity)
    time = TimeBudget(seconds, used=trials.seconds + clock.monotonic() - since)
    quantized = write_recipe(_QUANTIZED, None, config)
    builder = make_builder(settings, folder, quantized)
    finish_seconds = trials.remember("seconds to finish", _FINISHES * (clock.monotonic() - since))
    planner = make_planner(settings, config, folder, builder, trials, quantized)
    return Searcher(builder, planner, config, trials, time, settings.log, directory,
                    finish_seconds, executor, executor.workers)


def open_store(folder: Path, url: str | None, seed: int) -> TrialStore:
    """Open the storage of a search's trials, and note in its directory where it is."""
    location = locate_store(folder, url)
    store = TrialStore(location, seed)
    if url is not None:
        remember_store(folder, location)
    return store


def make_builder(settings: RunSettings, folder: Path, quantized: Recipe) -> Builder:
    """Measure the original, unless that is done, and choose how candidates are compared."""
    task, log = settings.task, settings.log
    run = Run.open(settings, quantized, folder / "trials" / _QUANTIZED, adjust=False)
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
    trial = next((one for one in store.trials() if one.name == _QUANTIZED), None)
    if trial is None:
        candidate = Candidate(name=_QUANTIZED, recipe=quantized)
        trial = builder.measure(candidate, builder.build(candidate))
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
