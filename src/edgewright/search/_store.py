"""Proposals and their trials in an Optuna study."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar, final

import optuna

from edgewright.search._candidate import Factors
from edgewright.search._storage import StoreLocation, open_storage, reporting
from edgewright.search._trial import Trial

_RANGE: Final = (0.03, 30.0)
_SHRINK: Final = (0.08, 0.95)
_FIRST: Final = (Factors(shrink=0.5), Factors(blocks=0.1, shrink=0.3),
                 Factors(widths=0.1, shrink=0.7))
_STARTUP: Final = 4
_TRIAL: Final = "trial "
_SECONDS: Final = "seconds"
_KEPT: Final = "kept"
_CHOSEN: Final = "chosen"
_PHASES: Final = "phases"
_FAILURES: Final = "failures"

Sampler = Literal["gp", "random"]
P = ParamSpec("P")
R = TypeVar("R")


def _reported(method: Callable[Concatenate[TrialStore, P], R],
              ) -> Callable[Concatenate[TrialStore, P], R]:
    """Report the database's failures in a method by its URL; see `reporting`."""
    @wraps(method)
    def call(store: TrialStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with reporting(store.location.url):
            return method(store, *args, **kwargs)
    return call


@final
class TrialStore:
    """Asks Optuna for proposals, and keeps every trial in its storage.

    A proposal is an Optuna trial whose value is the score after the first round. Every trial that
    was measured, later rounds included, is kept in the study's attributes, with the time used.

    Args:
        location: Where they are stored.
        seed: Seed of the proposals.
        sampler: ``gp`` for a Gaussian process, ``random`` as a baseline.
        shrinks: Whether to propose a size too.

    Raises:
        StorageError: The storage cannot be reached, or is locked; so from every method.
        MissingExtraError: The driver of the database is not installed.
    """

    def __init__(self, location: StoreLocation, seed: int, sampler: Sampler = "gp", *,
                 shrinks: bool = False) -> None:
        self._names = ("blocks", "widths", *(["shrink"] if shrinks else []))
        self.location = location
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            chosen = (optuna.samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP)
                      if sampler == "gp" else optuna.samplers.RandomSampler(seed=seed))
            storage = open_storage(location.url)
            with reporting(location.url, "open"):
                self._study = optuna.create_study(
                    storage=storage, study_name=location.study, sampler=chosen,
                    direction="maximize", load_if_exists=True)
        self._enqueue_first()

    @_reported
    def _enqueue_first(self) -> None:
        if not self._study.trials:
            for first in _FIRST:
                self._study.enqueue_trial(first.model_dump(include=set(self._names)))

    @property
    @_reported
    def seconds(self) -> float:
        """The time used so far."""
        return float(self._study.user_attrs.get(_SECONDS, 0.0))

    @seconds.setter
    @_reported
    def seconds(self, value: float) -> None:
        self._study.set_user_attr(_SECONDS, value)

    @property
    def chosen(self) -> str:
        """Name of the trial whose file is the result so far; empty if there is none."""
        return str(self.recall(_CHOSEN) or "")

    @chosen.setter
    def chosen(self, name: str) -> None:
        self.note(_CHOSEN, name)

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of every phase, in the order of their beginning."""
        return dict(self.recall(_PHASES) or {})

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Add to the time of a phase."""
        known = self.phases
        self.note(_PHASES, {**known, phase: known.get(phase, 0.0) + seconds})

    @_reported
    def ask(self) -> tuple[int, Factors]:
        """The number of a new proposal, and the proposal."""
        trial = self._study.ask()
        return trial.number, Factors.model_validate({
            name: trial.suggest_float(name, *(_SHRINK if name == "shrink" else _RANGE), log=True)
            for name in self._names})

    @_reported
    def tell(self, trial: Trial, merit: float, excess: float) -> None:
        """Record the first trial of a proposal.

        Args:
            trial: The trial.
            merit: What proposals are to maximize.
            excess: By how much a limit is exceeded; at most 0 if the trial is allowed.
        """
        self.add(trial)
        if trial.proposal is None:
            raise ValueError(f"{trial.name} has no proposal")
        number = trial.proposal.number
        self._attributes(number).set_constraint("limits", excess)
        self._study.tell(number, merit)

    @_reported
    def fail(self, number: int, reason: str) -> None:
        """Record that a proposal could not be tried."""
        self._attributes(number).set_user_attr("failure", reason)
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)

    @_reported
    def record_failure(self, name: str, reason: str) -> None:
        """Keep why a candidate could not be built."""
        self._study.set_user_attr(_FAILURES, {**self.failures(), name: reason})

    @_reported
    def failures(self) -> dict[str, str]:
        """Why candidates could not be built, by their names."""
        return dict(self._study.user_attrs.get(_FAILURES, {}))

    @_reported
    def add(self, trial: Trial) -> None:
        """Keep a trial; one of the same name is replaced."""
        key = f"{_TRIAL}{trial.name}"
        known = self._entries()
        place = known[key]["place"] if key in known else len(known)
        self._study.set_user_attr(key, {"place": place, "trial": trial.model_dump(mode="json")})

    @_reported
    def trials(self) -> list[Trial]:
        """Every trial kept, in the order of their recording."""
        return [Trial.model_validate(one["trial"])
                for one in sorted(self._entries().values(), key=lambda one: one["place"])]

    def _entries(self) -> dict[str, dict[str, Any]]:
        """Every trial kept, with its place in the order of their recording."""
        return {key: value for key, value in self._study.user_attrs.items()
                if key.startswith(_TRIAL)}

    @_reported
    def first_trials(self) -> list[Trial]:
        """The first trial of every proposal that was tried."""
        tried = {trial.number for trial in self._study.trials
                 if trial.state == optuna.trial.TrialState.COMPLETE}
        found: dict[int, Trial] = {}
        for trial in self.trials():
            if trial.proposal is not None and trial.proposal.number in tried:
                found.setdefault(trial.proposal.number, trial)
        return list(found.values())

    @_reported
    def unfinished(self) -> list[tuple[int, Factors]]:
        """Proposals that an interrupted process was trying."""
        return [(trial.number, Factors.model_validate(trial.params))
                for trial in self._study.trials
                if trial.state == optuna.trial.TrialState.RUNNING
                and len(trial.params) == len(self._names)]

    @_reported
    def remember(self, key: str, value: Any) -> Any:
        """Keep a value, as JSON; returns the one that an earlier process kept, if it did."""
        kept = self.recall(key)
        if kept is not None:
            return kept
        self.note(key, value)
        return value

    @_reported
    def note(self, key: str, value: Any) -> None:
        """Keep a value, as JSON, in place of an earlier one."""
        self._study.set_user_attr(f"{_KEPT} {key}", value)

    @_reported
    def recall(self, key: str) -> Any:
        """The value that was kept; None if none was."""
        return self._study.user_attrs.get(f"{_KEPT} {key}")

    def _attributes(self, number: int) -> optuna.trial.Trial:
        return optuna.trial.Trial(self._study, self._study.trials[number]._trial_id)
