"""Proposals and trials survive the process that made them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.core import Figures, Measurement
from edgewright.errors import StorageError
from edgewright.pipeline import Recipe
from edgewright.search._candidate import Factors, Proposal
from edgewright.search._storage import StoreLocation, locate_store
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial, find_front


def make_trial(name: str, proposal: Proposal | None = None, *, size: float = 10.0,
               latency: float = 1.0, score: float = 0.5) -> Trial:
    figures = Figures.of(Measurement(name="size_bytes", value=size, kind="measured"),
                         Measurement(name="latency_ms", value=latency, kind="measured"))
    return Trial(name=name, recipe=Recipe(), proposal=proposal, figures=figures, score=score,
                 seconds=1.0, predicted={"size": size})


def test_everything_is_read_again_by_the_next_process(tmp_path: Path) -> None:
    store = TrialStore(locate_store(tmp_path), seed=0)
    store.add(make_trial("quantized"))
    number, factors = store.ask()
    first = make_trial("00-1", Proposal(number=number, factors=factors))
    store.tell(first, merit=0.5, excess=-0.1)
    later = make_trial("00-2", Proposal(number=number, factors=factors), score=0.7)
    store.add(later)
    store.seconds = 12.5
    assert store.remember("rounds", [3, 1.5]) == [3, 1.5]

    again = TrialStore(locate_store(tmp_path), seed=0)
    assert again.trials() == [make_trial("quantized"), first, later]
    assert again.first_trials() == [first]
    assert again.seconds == 12.5
    assert again.remember("rounds", [9, 9.0]) == [3, 1.5]


def test_an_interrupted_proposal_is_tried_again(tmp_path: Path) -> None:
    store = TrialStore(locate_store(tmp_path), seed=0)
    number, factors = store.ask()
    assert TrialStore(locate_store(tmp_path), seed=0).unfinished() == [(number, factors)]
    store.fail(number, "it diverged")
    again = TrialStore(locate_store(tmp_path), seed=0)
    assert again.unfinished() == []
    assert again.first_trials() == []
    assert again.ask()[0] == number + 1


def test_proposals_depend_on_the_seed_alone(tmp_path: Path) -> None:
    def proposals(folder: Path, seed: int) -> list[Factors]:
        folder.mkdir()
        store = TrialStore(locate_store(folder), seed=seed)
        found = []
        for place in range(7):
            number, factors = store.ask()
            found.append(factors)
            trial = make_trial(f"{number}-1", Proposal(number=number, factors=factors),
                               score=float(place % 3))
            store.tell(trial, trial.score, excess=0.2 * place - 0.5)
        return found

    first, second, other = (proposals(tmp_path / name, seed)
                            for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first == second
    assert first != other
    assert first[0] == Factors()


def test_a_size_is_proposed_if_asked_for(tmp_path: Path) -> None:
    store = TrialStore(locate_store(tmp_path), seed=0, shrinks=True)
    asked = [store.ask() for _ in range(6)]
    assert [factors for _, factors in asked[:2]] == [Factors(shrink=0.5),
                                                     Factors(blocks=0.1, shrink=0.3)]
    assert len({factors.shrink for _, factors in asked}) == 6
    assert all(0.08 <= factors.shrink <= 0.95 for _, factors in asked)
    again = TrialStore(locate_store(tmp_path), seed=0, shrinks=True)
    assert again.unfinished() == asked


def test_a_storage_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(StorageError, match=r"cannot open the storage of trials at sqlite:////nowh"):
        TrialStore(StoreLocation("sqlite:////nowhere/at/all.db"), seed=0)


def test_the_front_has_what_no_other_dominates() -> None:
    small = make_trial("small", size=3, latency=2.0, score=0.6)
    fast = make_trial("fast", size=9, latency=0.5, score=0.6)
    good = make_trial("good", size=9, latency=2.0, score=0.9)
    worse = make_trial("worse", size=9, latency=2.0, score=0.8)
    assert [trial.name for trial in find_front([worse, good, fast, small])] == [
        "small", "good", "fast"]
