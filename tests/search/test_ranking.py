"""How a search ranks what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgewright as ew
from edgewright.core import Figures, Measurement
from edgewright.pipeline import Recipe
from edgewright.search._metric_limits import MetricLimits
from edgewright.search._ranking import Ranking
from edgewright.search._storage import locate_store
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial


def timed(name: str, latency: float, score: float, blocks: tuple[str, ...]) -> Trial:
    figures = Figures.of(Measurement(name="size_bytes", value=9.0, kind="measured"),
                         Measurement(name="latency_ms", value=latency, kind="measured"))
    recipe = Recipe(name=name, blocks=ew.BlockPruning(remove=blocks))
    return Trial(name=name, recipe=recipe, figures=figures, score=score, seconds=1.0)


def ranked(folder: Path, trials: list[Trial],
           metric_limits: MetricLimits | None = None) -> list[str]:
    store = TrialStore(locate_store(folder), seed=0)
    for trial in trials:
        store.add(trial)
    ranking = Ranking(ew.Budget(latency="1 ms"), Figures(), store, metric_limits)
    return [trial.name for trial in ranking.rank(trials)]


def test_files_within_the_limits_come_first_by_score(tmp_path: Path) -> None:
    assert ranked(tmp_path, [timed("slow", 1.5, 0.9, ("a",)), timed("fast", 0.9, 0.7, ("b",)),
                             timed("better", 0.95, 0.8, ("c",))]) == ["better", "fast", "slow"]


def test_noise_does_not_part_files_of_one_structure(tmp_path: Path) -> None:
    short = timed("short", 0.98, 0.6, ("a",))
    trained = timed("trained", 1.06, 0.9, ("a",))  # the same network, trained longer
    assert ranked(tmp_path, [short, trained]) == ["trained", "short"]


def test_a_candidate_slightly_above_a_limit_can_count_as_within(tmp_path: Path) -> None:
    trials = [timed("near", 1.04, 0.9, ("a",)), timed("within", 0.9, 0.7, ("b",)),
              timed("far", 1.2, 0.99, ("c",))]
    store = TrialStore(locate_store(tmp_path), seed=0)
    ranking = Ranking(ew.Budget(latency="1 ms"), Figures(), store)
    assert [trial.name for trial in ranking.rank(trials)] == ["within", "near", "far"]
    assert [trial.name for trial in ranking.rank(trials, slack=0.05)] == ["near", "within", "far"]


def accuracy(value: float) -> Measurement:
    return Measurement(name="accuracy", value=value, kind="measured", higher_is_better=True)


def sized(name: str, size: float, value: float, *, latency: float = 1.0) -> Trial:
    trial = timed(name, latency, 0.5, (name,))
    return trial.replace(figures=trial.figures.with_(
        Measurement(name="size_bytes", value=size, kind="measured"), accuracy(value)))


LIMITS = MetricLimits(ew.Budget(max_drop="2 %"), Figures.of(accuracy(0.90)),
                      Figures.of(accuracy(0.99)))


def test_the_smallest_file_within_the_drop_is_best_if_no_cost_is_limited(tmp_path: Path) -> None:
    trials = [sized("large", 9.0, 0.99), sized("small", 3.0, 0.975), sized("worse", 2.0, 0.96),
              sized("bad", 1.0, 0.5), sized("fast", 3.0, 0.975, latency=0.5)]
    assert ranked(tmp_path, trials, LIMITS) == ["fast", "small", "large", "worse", "bad"]


def test_a_metric_is_predicted_from_what_is_lost_on_the_validation_split() -> None:
    bounded = MetricLimits(ew.Budget(accuracy="85 %"), LIMITS.original, LIMITS.validated)
    assert bounded.excess(sized("a", 1.0, 0.95)) == 0.0  # 0.90 + 0.95 - 0.99
    assert bounded.excess(sized("a", 1.0, 0.93)) == pytest.approx(0.01)
    assert bounded.excess(timed("unknown", 1.0, 0.5, ("a",))) == float("inf")
