"""Building candidates, one or several at once, and keeping what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from edgewright.pipeline import Recipe, RunLog
from edgewright.search._builder import Builder
from edgewright.search._built import Failure
from edgewright.search._candidate import Candidate, Proposal
from edgewright.search._executor import Executor
from edgewright.search._progress import SearchProgress
from edgewright.search._ranking import Ranking
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial


@final
@dataclass(frozen=True)
class TrialMaker:
    """Makes trials of recipes.

    Attributes:
        builder: Builds and measures candidates.
        executor: Where they are built.
        store: Keeps them.
        ranking: Which is the best.
        progress: Shows the best so far.
        log: Where every trial is described.
    """

    builder: Builder
    executor: Executor
    store: TrialStore
    ranking: Ranking
    progress: SearchProgress
    log: RunLog

    def begin(self, name: str, recipe: Recipe, proposal: Proposal,
              predicted: Mapping[str, float]) -> Candidate:
        """A candidate, with the recipe with which an interrupted process began it."""
        begun = self.store.remember(f"recipe of {name}", recipe.replace(
            name=f"candidate {name}").model_dump(mode="json"))
        return Candidate(name=name, recipe=Recipe.model_validate(begun), proposal=proposal,
                         predicted=dict(predicted))

    def build(self, candidates: Sequence[Candidate]) -> Iterator[Trial | Failure]:
        """Build and measure candidates; each that fails is named, and the others go on."""
        for candidate, built in zip(candidates, self.executor.build(self.builder, candidates),
                                    strict=True):
            if isinstance(built, Failure):
                self.log.note(f"candidate {candidate.name} failed: {built.reason}")
                self.store.record_failure(candidate.name, built.reason)
                yield built
                continue
            trial = self.builder.measure(candidate, built)
            self.progress.save()
            known = [*(one for one in self.store.trials() if one.name != trial.name), trial]
            self.progress.show_best(self.ranking.rank(known)[0], known)
            self.log.note(self.ranking.describe(trial))
            yield trial

    def rebuild(self, trials: Sequence[Trial], recipes: Sequence[Recipe], place: str, *,
                round_: int = 0, scores_stages: bool = False) -> list[Trial]:
        """Build trials again by other recipes, and keep them; the trial itself where that fails.

        Args:
            trials: The trials.
            recipes: The recipe of each.
            place: Where in the search they are built, for their names.
            round_: The round of the race; 0 outside of it.
            scores_stages: Whether what every stage made is measured, which takes time.
        """
        candidates = [
            self.begin(name_of(proposal_of(trial), place), recipe, proposal_of(trial),
                       trial.predicted).replace(round=round_, scores_stages=scores_stages)
            for trial, recipe in zip(trials, recipes, strict=True)]
        found = []
        for trial, longer in zip(trials, self.build(candidates), strict=True):
            if not isinstance(longer, Failure):
                self.store.add(longer)
            found.append(trial if isinstance(longer, Failure) else longer)
        return found


def name_of(proposal: Proposal, place: str) -> str:
    """Directory of a candidate: its proposal, and where in the search it was built."""
    return f"{proposal.number:02d}-{place}"


def proposal_of(trial: Trial | Candidate) -> Proposal:
    """What a trial was made from."""
    assert trial.proposal is not None  # noqa: S101 - only the quantized original has none
    return trial.proposal
