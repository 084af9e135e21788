"""Search for the best file under a budget, in a given time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from edgewright.allocation import JointAnswer
from edgewright.errors import UsageError
from edgewright.pipeline import Recipe, Result, RunLog
from edgewright.search._builder import Builder
from edgewright.search._built import Failure
from edgewright.search._candidate import Candidate, Factors, Proposal
from edgewright.search._config import Search
from edgewright.search._exits import fit_exits_to, keep_choice, propose_variants
from edgewright.search._planner import Planner
from edgewright.search._progress import SearchProgress
from edgewright.search._publish import Publisher, keep_best
from edgewright.search._race import Round, plan_race
from edgewright.search._ranking import Ranking
from edgewright.search._recipes import lengthen, train_out, training_seconds, write_recipe
from edgewright.search._store import TrialStore
from edgewright.search._time_budget import TimeBudget
from edgewright.search._trial import Trial, find_front
from edgewright.search._trial_maker import TrialMaker, name_of, proposal_of

_EXITS_SHARE: Final = 0.15   # of the time after the race, for variants with exits
_FIRST_SHRINK: Final = 0.5   # size in a plan, if no cost is limited
_SHORTEST_WITH_EXITS: Final = 60.0  # seconds of training, below which exits learn too little
_REPEATS: Final = 5          # proposals in a row without a new answer that end a round
_TIMING_SHARE: Final = 0.01  # of the time, for timing the best candidates together
_SURROUNDINGS: Final = 1.5   # of the time to build the quantized original: what else a build does
_TIGHTENED: Final = 3        # times that limits are corrected for a candidate above one
_NEAR: Final = 0.05          # of a limit, above which a candidate cannot be tightened much


@final
@dataclass(frozen=True)
class SearchPlan:
    """What a search would do.

    Attributes:
        answers: The first answers, with their predicted costs and damage, the best first.
        rounds: The rounds of the race.
        seconds: The time that is left.
        finish_seconds: The part of it that is kept for verifying the result.
    """

    answers: tuple[JointAnswer, ...]
    rounds: tuple[Round, ...]
    seconds: float
    finish_seconds: float


@final
@dataclass
class Searcher:
    """One search; what an earlier process finished is taken from its directory.

    Attributes:
        builder: Finishes the best candidates, and times them together.
        maker: Makes trials.
        planner: Decides what candidates are.
        config: The settings.
        store: Keeps the trials.
        time: The time that the search may take.
        log: Where progress is shown.
        publisher: Writes the result.
        progress: Shows and counts the time of every phase.
        ranking: Which trial is the best.
        finish_seconds: Time to keep for finishing the best file.
        workers: How many candidates are asked for at once; a search that goes on keeps the number.
    """

    builder: Builder
    maker: TrialMaker
    planner: Planner
    config: Search
    store: TrialStore
    time: TimeBudget
    log: RunLog
    publisher: Publisher
    progress: SearchProgress
    ranking: Ranking
    finish_seconds: float
    workers: int = 1
    _tried: list[Recipe] = field(default_factory=list)

    def run(self) -> Result:
        """Race, train the best candidate in the time that is left, and finish the best file.

        Raises:
            BudgetError: No candidate can meet the limits on costs.
            UsageError: The time is too short for one candidate.
            SearchInterrupted: It was interrupted; the best file so far is published.
        """
        with keep_best(self.publisher, lambda: self.ranking.rank(self.store.trials())):
            return self._search()

    def _search(self) -> Result:
        self.planner.check_feasible(self.store.trials())
        self._check_time()
        self.workers = self.store.remember("workers", self.workers)
        self._tried = [lengthen(trial.recipe, self.config, 0.0).replace(name="")
                       for trial in self.store.first_trials()]
        raced = {trial.name for trial in self._race()}
        self._time_together()
        if raced:
            standing = [trial for trial in self.store.trials() if trial.name in raced]
            self._train_out(self._choose(standing))
            self._time_together()
        best = self.ranking.rank(self.store.trials())[0]
        self.progress.begin("verify", best.name)
        self.log.begin("best", self.ranking.describe(best))
        result = self.builder.finish(best)
        self._finish_others(best)
        return self.publisher.publish(best, result)

    def plan(self) -> SearchPlan:
        """What would be searched.

        Raises:
            BudgetError: No candidate can meet the limits on costs.
            UsageError: The time is too short for one candidate.
        """
        trials = self.store.trials()
        self.planner.check_feasible(trials)
        self._check_time()
        first = Factors(shrink=_FIRST_SHRINK)
        return SearchPlan(tuple(self.planner.answers(first, trials)),
                          tuple(self._plan_rounds()), self.time.left, self.finish_seconds)

    def _finish_others(self, best: Trial) -> None:
        """Verify the other files of the front on the test split while there is time."""
        for trial in find_front(self.store.trials()):
            if trial.name != best.name and self.time.left > self.finish_seconds:
                self.progress.begin("verify", f"{trial.name} of the front")
                self.log.begin("front", self.ranking.describe(trial))
                self.builder.finish(trial)

    def _time_together(self) -> None:
        """Time the best trials in one measurement, if the latency is limited."""
        if self.ranking.budget.latency is None:
            return
        self.log.begin("latency", "the best candidates, taken in turn")
        for trial in self.builder.time_together(self.ranking.rank(self.store.trials()),
                                                _TIMING_SHARE * self.time.seconds):
            self.store.add(trial)

    def _check_time(self) -> None:
        """Raise if not even one candidate can be built and verified, unless one has been."""
        quantized, *others = self.store.trials()
        needed = quantized.seconds + self.finish_seconds
        if not others and self.time.left < needed:
            raise UsageError(f"the time is too short: building and verifying one candidate takes "
                             f"about {needed:.0f} s, and {self.time.left:.0f} s of "
                             f"{self.time.seconds:.0f} s are left; give at least "
                             f"{self.time.used + needed:.0f} s")

    def _race(self) -> list[Trial]:
        """The candidates of the last round, the best first."""
        rounds = [Round.model_validate(one) for one in self.store.remember(
            "rounds", [one.model_dump() for one in self._plan_rounds()])]
        standing = self._open(rounds[0], len(rounds))
        for place, later in enumerate(rounds[1:], 2):
            self._begin_round(place, len(rounds), later)
            best = self.ranking.rank(standing)[:later.candidates]
            longer = [lengthen(keep_choice(trial), self.config, later.training_seconds)
                      for trial in best]
            standing = self.maker.rebuild(best, longer, str(place), round_=place)
        return self.ranking.rank(standing)

    def _plan_rounds(self) -> list[Round]:
        return plan_race(self.config.race * (self.time.left - self.finish_seconds),
                         self.store.trials()[0].seconds, candidates=self.config.candidates,
                         survivors=self.config.survivors, workers=self.workers)

    def _begin_round(self, place: int, rounds: int, later: Round) -> None:
        training = (f"{later.training_seconds:.0f} s of training each" if later.training_seconds
                    else "without training")
        self.log.begin(f"round {place}", f"{later.candidates} candidates, {training}")
        self.progress.begin("race", f"round {place} of {rounds}, {later.candidates} candidates")

    def _open(self, first: Round, rounds: int) -> list[Trial]:
        """Propose, build and measure the candidates of the first round.

        As many are proposed at once as there are workers, and told in the order of asking.
        """
        self._begin_round(1, rounds, first)
        found, repeats, unfinished = self.store.first_trials(), 0, self.store.unfinished()
        while len(found) < first.candidates and repeats < _REPEATS:
            self.progress.begin("race", f"round 1 of {rounds}, candidate {len(found) + 1} of "
                                        f"{first.candidates}")
            wanted = min(self.workers, first.candidates - len(found))
            candidates = [self._ask(unfinished, first.training_seconds) for _ in range(wanted)]
            trials = list(self._build_first([one for one in candidates if one is not None]))
            repeats = 0 if trials else repeats + wanted
            found += trials
        return found

    def _ask(self, unfinished: list[tuple[int, Factors]], seconds: float) -> Candidate | None:
        """The candidate of the next proposal, unfinished ones first; None if it has none."""
        since = time.perf_counter()
        number, factors = unfinished.pop(0) if unfinished else self.store.ask()
        candidate = self._propose(Proposal(number=number, factors=factors), seconds)
        return None if candidate is None else candidate.replace(
            round=1, planning_seconds=time.perf_counter() - since)

    def _propose(self, proposal: Proposal, seconds: float) -> Candidate | None:
        """The best new answer to a proposal; None if there is none."""
        for answer in self.planner.answers(proposal.factors, self.store.trials()):
            recipe = write_recipe("", answer, self.config)
            if recipe not in self._tried:
                self._tried.append(recipe)
                return self.maker.begin(name_of(proposal, "1"),
                                        lengthen(recipe, self.config, seconds), proposal,
                                        answer.costs)
        self.store.fail(proposal.number, "its answers have been tried already")
        return None

    def _build_first(self, candidates: Sequence[Candidate]) -> Iterator[Trial]:
        """Build and measure the first candidates of proposals, and tell what came of each."""
        for candidate, trial in zip(candidates, self.maker.build(candidates), strict=True):
            if isinstance(trial, Failure):
                self.store.fail(proposal_of(candidate).number, trial.reason)
            else:
                self.ranking.tell(trial)
                yield trial

    def _choose(self, standing: list[Trial]) -> Trial:
        """The candidate to train out.

        One that exceeds a limit a little may be much better than the best within all, so that it is
        tightened first.
        """
        leader = self._try_exits(self.ranking.rank(standing, slack=_NEAR)[0])
        tightened = self._tighten(leader)
        if self.ranking.cost_ratio(tightened) <= 1:
            return tightened
        return self.ranking.rank([tightened, *standing])[0]

    def _tighten(self, trial: Trial) -> Trial:
        """The best candidate within the limits that takes its place if it exceeds one."""
        proposal = proposal_of(trial)
        for attempt in range(_TIGHTENED):
            if self.ranking.cost_ratio(trial) <= 1:
                break
            self.progress.begin("race", f"a candidate within the limits in place of {trial.name}")
            answer = next(self.planner.answers(proposal.factors, self.store.trials()), None)
            if answer is None:
                break
            candidate = self.maker.begin(
                name_of(proposal, f"tightened-{attempt + 1}"),
                write_recipe("", answer, self.config), proposal, answer.costs)
            tightened, = self.maker.build([candidate])
            if isinstance(tightened, Failure):
                break
            trial = tightened
            self.store.add(trial)
        return trial

    def _try_exits(self, leader: Trial) -> Trial:
        """The best of the leading candidate and its variants with exits, equally trained."""
        exits = fit_exits_to(self.builder.settings, self.config)
        seconds = training_seconds(leader.recipe.recover)
        if exits is None or seconds < _SHORTEST_WITH_EXITS:
            return leader
        count = self.store.remember("exit variants", int(
            _EXITS_SHARE * (self.time.left - self.finish_seconds) / leader.seconds))
        standing = [leader]
        variants = propose_variants(leader, proposal_of(leader), self.planner,
                                    self.store.trials(), self.config, exits)
        for variant in itertools.islice(variants, count):
            self.progress.begin("race", f"the best candidate {variant.place}")
            self.log.begin("exits", variant.place)
            variant_of = leader.replace(predicted={}, exits=None)
            recipe = lengthen(variant.recipe, self.config, seconds)
            tried, = self.maker.rebuild([variant_of], [recipe], variant.place)
            standing += [tried] if tried.name != leader.name else []
        return self.ranking.rank(standing)[0]

    def _train_out(self, trial: Trial) -> None:
        """Train the best candidate in the time that is left, at last with quantization."""
        surroundings = _SURROUNDINGS * self.store.trials()[0].seconds
        seconds = self.time.left - self.finish_seconds - surroundings
        if seconds <= 0:
            self.log.note("no time is left to train the best candidate longer")
            return
        self.progress.begin("training", trial.name)
        self.log.begin("training", f"the best candidate for {seconds:.0f} s")
        self.maker.rebuild([trial], [train_out(keep_choice(trial), self.config, seconds)],
                           "final", scores_stages=True)
