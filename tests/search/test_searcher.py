"""How a search ranks what it measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import edgewright as ew
from edgewright.core import Figures, Measurement
from edgewright.pipeline import Recipe, RunLog
from edgewright.search._searcher import Searcher
from edgewright.search._storage import locate_store
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial


def timed(name: str, latency: float, score: float, blocks: tuple[str, ...]) -> Trial:
    figures = Figures.of(Measurement(name="size_bytes", value=9.0, kind="measured"),
                         Measurement(name="latency_ms", value=latency, kind="measured"))
    recipe = Recipe(name=name, blocks=ew.BlockPruning(remove=blocks))
    return Trial(name=name, recipe=recipe, figures=figures, score=score, seconds=1.0)


def ranked(folder: Path, trials: list[Trial]) -> list[str]:
    store = TrialStore(locate_store(folder), seed=0)
    for trial in trials:
        store.add(trial)
    settings = SimpleNamespace(budget=ew.Budget(latency="1 ms"))
    builder = SimpleNamespace(settings=settings, original=Figures())
    searcher = Searcher(cast(Any, builder), cast(Any, None), ew.Search(), store, cast(Any, None),
                        RunLog(quiet=True), cast(Any, None), cast(Any, None), 0.0)
    return [trial.name for trial in searcher._rank(trials)]


def test_files_within_the_limits_come_first_by_score(tmp_path: Path) -> None:
    assert ranked(tmp_path, [timed("slow", 1.5, 0.9, ("a",)), timed("fast", 0.9, 0.7, ("b",)),
                             timed("better", 0.95, 0.8, ("c",))]) == ["better", "fast", "slow"]


def test_noise_does_not_part_files_of_one_structure(tmp_path: Path) -> None:
    short = timed("short", 0.98, 0.6, ("a",))
    trained = timed("trained", 1.06, 0.9, ("a",))  # the same network, trained longer
    assert ranked(tmp_path, [short, trained]) == ["trained", "short"]
