"""Search for the best file under a budget, in a given time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, final

from edgewright.allocation import JointAnswer
from edgewright.core import format_metric, format_size, write_atomically
from edgewright.errors import EdgewrightError, UsageError
from edgewright.pipeline import Recipe, Result, RunDirectory, RunLog
from edgewright.search._builder import Builder
from edgewright.search._config import Search
from edgewright.search._metric_limits import MetricLimits
from edgewright.search._planner import Planner
from edgewright.search._race import Round, plan_race
from edgewright.search._recipes import lengthen, write_recipe
from edgewright.search._store import TrialStore
from edgewright.search._time_budget import TimeBudget
from edgewright.search._trial import Factors, Proposal, Trial, find_front

_QUANTIZED_SHARE: Final = 0.3  # of the winner's training, with quantization
_REPEATS: Final = 5            # proposals in a row without a new answer that end a round
_FIRST_SHRINK: Final = 0.5     # size in a plan, if no cost is limited
_TIGHTENED: Final = 3          # times that limits are corrected for a candidate above one


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
        builder: Builds and measures candidates.
        planner: Decides what they are.
        config: The settings.
        store: Keeps the trials.
        time: The time that the search may take.
        log: Where progress is shown.
        directory: The search's directory, for its result.
        finish_seconds: Time to keep for finishing the best file.
        metric_limits: How to rank if the budget limits no cost; None if it does.
    """

    builder: Builder
    planner: Planner
    config: Search
    store: TrialStore
    time: TimeBudget
    log: RunLog
    directory: RunDirectory
    finish_seconds: float
    metric_limits: MetricLimits | None = None
    _tried: list[Recipe] = field(default_factory=list)

    def run(self) -> Result:
        """Race, train the best candidate in the time that is left, and finish the best file.

        Raises:
            BudgetError: No candidate can meet the limits on costs.
            UsageError: The time is too short for one candidate.
        """
        self.planner.check_feasible(self.store.trials())
        self._check_time()
        self._tried = [lengthen(trial.recipe, self.config, 0.0, 0.0).replace(name="")
                       for trial in self.store.first_trials()]
        standing = self._race()
        if standing:
            self._train_out(self._tighten(standing[0]))
        best = self._rank(self.store.trials())[0]
        self.log.begin("best", self._describe(best))
        result = self.builder.finish(best)
        self._finish_others(best)
        return self._publish(result)

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

    def _publish(self, result: Result) -> Result:
        """Copy the files of the best candidate to the search's directory."""
        directory, source = self.directory, result.bundle.parent
        for file in (directory.bundle, directory.manifest, directory.recipe, directory.report):
            write_atomically(file, (source / file.name).read_bytes())
        directory.seal(directory.bundle)
        return replace(result, bundle=directory.bundle, report=directory.report)

    def _finish_others(self, best: Trial) -> None:
        """Verify the other files of the front on the test split while there is time."""
        for trial in find_front(self.store.trials()):
            if trial.name != best.name and self.time.left > self.finish_seconds:
                self.log.begin("front", self._describe(trial))
                self.builder.finish(trial)

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
        standing = self._open(rounds[0])
        for place, later in enumerate(rounds[1:], 2):
            self._begin_round(place, later)
            standing = [self._train(trial, later.training_seconds, 0.0, str(place))
                        for trial in self._rank(standing)[:later.candidates]]
        return self._rank(standing)

    def _plan_rounds(self) -> list[Round]:
        return plan_race(self.config.race * (self.time.left - self.finish_seconds),
                         self.store.trials()[0].seconds, candidates=self.config.candidates,
                         survivors=self.config.survivors)

    def _begin_round(self, place: int, later: Round) -> None:
        training = (f"{later.training_seconds:.0f} s of training each" if later.training_seconds
                    else "without training")
        self.log.begin(f"round {place}", f"{later.candidates} candidates, {training}")

    def _open(self, first: Round) -> list[Trial]:
        """Propose, build and measure the candidates of the first round."""
        self._begin_round(1, first)
        found, repeats, unfinished = self.store.first_trials(), 0, self.store.unfinished()
        while len(found) < first.candidates and repeats < _REPEATS:
            number, factors = unfinished.pop(0) if unfinished else self.store.ask()
            trial = self._propose(Proposal(number=number, factors=factors),
                                  first.training_seconds)
            repeats = 0 if trial else repeats + 1
            found += [trial] if trial else []
        return found

    def _propose(self, proposal: Proposal, seconds: float) -> Trial | None:
        """Build the best new answer to a proposal; None if there is none, or it fails."""
        for answer in self.planner.answers(proposal.factors, self.store.trials()):
            recipe = write_recipe("", answer, self.config)
            if recipe in self._tried:
                continue
            self._tried.append(recipe)
            try:
                trial = self._build(_name(proposal, "1"),
                                    lengthen(recipe, self.config, seconds, 0.0), proposal,
                                    answer.costs)
            except EdgewrightError as error:
                self.log.note(f"candidate {proposal.number} failed: {error}")
                self.store.fail(proposal.number, str(error))
                return None
            self._tell(trial)
            return trial
        self.store.fail(proposal.number, "its answers have been tried already")
        return None

    def _tell(self, trial: Trial) -> None:
        """Tell the store how good a proposal's first trial is."""
        if self.metric_limits is None:
            self.store.tell(trial, trial.score, self._cost_ratio(trial) - 1)
        else:
            self.store.tell(trial, -math.log(trial.figures["size_bytes"]),
                            self.metric_limits.excess(trial))

    def _tighten(self, trial: Trial) -> Trial:
        """The best candidate within the limits that takes its place if it exceeds one."""
        proposal = _proposal_of(trial)
        for attempt in range(_TIGHTENED):
            if self._cost_ratio(trial) <= 1:
                break
            answer = next(self.planner.answers(proposal.factors, self.store.trials()), None)
            if answer is None:
                break
            trial = self._build(_name(proposal, f"tightened-{attempt + 1}"),
                                write_recipe("", answer, self.config), proposal, answer.costs)
            self.store.add(trial)
        return trial

    def _train(self, trial: Trial, seconds: float, quantized_seconds: float,
               place: str) -> Trial:
        """Build a candidate again with longer training; returns the trial itself if that fails."""
        proposal = _proposal_of(trial)
        recipe = lengthen(trial.recipe, self.config, seconds, quantized_seconds)
        try:
            longer = self._build(_name(proposal, place), recipe, proposal, trial.predicted)
        except EdgewrightError as error:
            self.log.note(f"candidate {proposal.number} failed: {error}")
            return trial
        self.store.add(longer)
        return longer

    def _train_out(self, trial: Trial) -> None:
        """Train the best candidate in the time that is left, at last with quantization."""
        seconds = self.time.left - self.finish_seconds - trial.seconds
        if seconds <= 0:
            self.log.note("no time is left to train the best candidate longer")
            return
        self.log.begin("training", f"the best candidate for {seconds:.0f} s")
        self._train(trial, (1 - _QUANTIZED_SHARE) * seconds, _QUANTIZED_SHARE * seconds, "final")

    def _build(self, name: str, recipe: Recipe, proposal: Proposal,
               predicted: Mapping[str, float]) -> Trial:
        begun = self.store.remember(f"recipe of {name}", recipe.replace(
            name=f"candidate {name}").model_dump(mode="json"))
        trial = self.builder.build(name, Recipe.model_validate(begun), proposal, predicted)
        self.store.seconds = self.time.used
        self.log.note(self._describe(trial))
        return trial

    def _rank(self, trials: list[Trial]) -> list[Trial]:
        """The best first: those within the limits on costs by score, then the nearest misses.

        Of equal scores, the smaller and then the faster file is better. If no cost is limited, the
        smallest file within the limits on metrics is best.
        """
        if self.metric_limits is not None:
            return sorted(trials, key=self.metric_limits.order)
        known = self.store.trials()
        return sorted(trials, key=lambda trial: (
            max(1.0, self._cost_ratio(trial, known)), -trial.score, trial.figures["size_bytes"],
            trial.figures["latency_ms"]))

    def _cost_ratio(self, trial: Trial, known: list[Trial] | None = None) -> float:
        """The largest ratio of a cost to its limit, with the latency of all alike trials.

        Files that differ only in their training and bits take the same time, so that the median
        over them is less noisy than each.

        Args:
            trial: The trial.
            known: All trials; None reads them from the store.
        """
        known = self.store.trials() if known is None else known
        alike = [trial.figures["latency_ms"], *(
            other.figures["latency_ms"] for other in known
            if other.name != trial.name and _structure(other) == _structure(trial))]
        latency = trial.figures.find("latency_ms")
        figures = trial.figures if latency is None else trial.figures.with_(
            latency.replace(value=statistics.median(alike)))
        return trial.replace(figures=figures).cost_ratio(self.builder.settings.budget,
                                                         self.builder.original)

    def _describe(self, trial: Trial) -> str:
        metric, ratio = trial.figures.metric, self._cost_ratio(trial)
        shown = "" if metric is None else (f"{metric.name} "
                                           f"{format_metric(metric.spec, metric.value)} (val), ")
        return (f"{trial.name}: {shown}{format_size(trial.figures['size_bytes'])}, "
                f"{trial.figures['latency_ms']:.3g} ms"
                f"{'' if ratio <= 1 else f', {100 * (ratio - 1):.1f} % over a limit'}")


def _name(proposal: Proposal, place: str) -> str:
    """Directory of a candidate: its proposal, and where in the search it was built."""
    return f"{proposal.number:02d}-{place}"


def _structure(trial: Trial) -> tuple[object, ...]:
    """What decides the latency of a trial's file; fewer bits are stored, not computed in."""
    return trial.recipe.blocks, trial.recipe.prune


def _proposal_of(trial: Trial) -> Proposal:
    assert trial.proposal is not None  # noqa: S101 - only the quantized original has none
    return trial.proposal
