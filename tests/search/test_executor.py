"""Building candidates in this process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from edgewright.core import Budget, Figures, Measurement
from edgewright.errors import TrainingError
from edgewright.pipeline import Recipe, RunLog
from edgewright.search._built import Built, Failure
from edgewright.search._candidate import Candidate, Factors
from edgewright.search._config import Search
from edgewright.search._executor import InProcess
from edgewright.search._race import Round
from edgewright.search._ranking import Ranking
from edgewright.search._recipes import lengthen
from edgewright.search._searcher import Searcher
from edgewright.search._storage import locate_store
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial
from edgewright.search._trial_maker import TrialMaker


class Fragile:
    """Builds nothing, and fails for some candidates."""

    def __init__(self, errors: dict[str, Exception]) -> None:
        self.errors, self.asked = errors, list[str]()

    def build(self, candidate: Candidate) -> Built:
        self.asked.append(candidate.name)
        if candidate.name in self.errors:
            raise self.errors[candidate.name]
        return Built(Figures(), 0.5, 1.0)

    def measure(self, candidate: Candidate, built: Built) -> Trial:
        figures = Figures.of(*(Measurement(name=name, value=9.0, kind="measured")
                               for name in ("size_bytes", "latency_ms")))
        return Trial(**dict(candidate), figures=figures, score=built.score, seconds=built.seconds)


class Planner:
    """A new answer to every proposal."""

    def __init__(self) -> None:
        self.known = list[int]()  # how many trials were known at each proposal

    def answers(self, factors: Factors, trials: list[Trial]) -> Any:
        self.known.append(len(trials))
        yield SimpleNamespace(widths={"a": len(self.known)}, removed=(), bits={}, costs={})


def searcher(folder: Path, builder: Fragile, workers: int = 1) -> Searcher:
    store, log, nothing = TrialStore(locate_store(folder), seed=0), RunLog(quiet=True), Mock()
    ranking = Ranking(Budget(), Figures(), store)
    maker = TrialMaker(cast(Any, builder), InProcess(workers), store, ranking, nothing, log)
    return Searcher(cast(Any, builder), maker, cast(Any, Planner()), Search(), store, nothing, log,
                    nothing, nothing, ranking, 0.0, workers)


@pytest.mark.parametrize(("error", "reason"), [
    (TrainingError("the loss is not\nfinite"), "the loss is not finite"),
    (MemoryError("8 GiB"), "MemoryError: 8 GiB"),
    (RuntimeError("can't allocate"), "RuntimeError: can't allocate")])
def test_a_candidate_fails_alone_and_is_stored_as_failed(tmp_path: Path, error: Exception,
                                                         reason: str) -> None:
    builder = Fragile({"01-1": error})
    search = searcher(tmp_path, builder)
    trials = search._open(Round(candidates=3, training_seconds=0.0), 1)
    assert [trial.name for trial in trials] == ["00-1", "02-1", "03-1"]
    assert search.store.failures() == {"01-1": reason}
    assert search.store.unfinished() == []
    assert [trial.name for trial in search.store.first_trials()] == ["00-1", "02-1", "03-1"]


def test_a_training_that_fails_leaves_the_shorter_one(tmp_path: Path) -> None:
    search = searcher(tmp_path, Fragile({"01-2": TrainingError("it diverged")}))
    first = search._open(Round(candidates=2, training_seconds=1.0), 2)
    longer = [lengthen(trial.recipe, search.config, 3.0) for trial in first]
    later = search.maker.rebuild(first, longer, "2")
    assert [trial.name for trial in later] == ["00-2", "01-1"]
    assert search.store.failures() == {"01-2": "it diverged"}


def test_an_interrupt_is_no_failure() -> None:
    builder = Fragile({"a": cast(Any, KeyboardInterrupt())})
    with pytest.raises(KeyboardInterrupt):
        list(InProcess().build(cast(Any, builder), [Candidate(name="a", recipe=Recipe())]))


def test_each_is_built_when_it_is_asked_for() -> None:
    builder = Fragile({"a": ValueError("no")})
    found = InProcess().build(cast(Any, builder), [
        Candidate(name=name, recipe=Recipe()) for name in "ab"])
    assert next(found) == Failure("ValueError: no")
    assert builder.asked == ["a"]
    assert next(found) == Built(Figures(), 0.5, 1.0)


@pytest.mark.parametrize(("workers", "known"), [
    (1, [0, 1, 2, 3, 4, 5]), (3, [0, 0, 0, 3, 3, 3]), (4, [0, 0, 0, 0, 4, 4])])
def test_as_many_are_proposed_at_once_as_there_are_workers(tmp_path: Path, workers: int,
                                                           known: list[int]) -> None:
    search = searcher(tmp_path, Fragile({}), workers)
    trials = search._open(Round(candidates=6, training_seconds=0.0), 1)
    assert [trial.name for trial in trials] == [f"0{number}-1" for number in range(6)]
    assert cast(Any, search.planner).known == known


def test_proposals_of_many_workers_depend_on_the_seed_alone(tmp_path: Path) -> None:
    def factors(name: str, workers: int) -> list[Factors]:
        (tmp_path / name).mkdir()
        search = searcher(tmp_path / name, Fragile({}), workers)
        return [trial.proposal.factors for trial in search._open(
            Round(candidates=9, training_seconds=0.0), 1) if trial.proposal is not None]

    first = factors("a", 3)
    assert first == factors("b", 3)
    assert len({(one.blocks, one.widths) for one in first}) == 9  # the running ones are considered
