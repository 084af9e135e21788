"""Proposals and their trials in an Optuna study."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, final

import optuna

from edgewright.search._storage import StoreLocation, open_storage, reporting
from edgewright.search._trial import Factors, Trial

_RANGE: Final = (0.03, 30.0)
_STARTUP: Final = 4
_TRIALS: Final = "trials"
_SECONDS: Final = "seconds"
_KEPT: Final = "kept"
_FAILURES: Final = "failures"

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

    Raises:
        StorageError: The storage cannot be reached, or is locked; so from every method.
        MissingExtraError: The driver of the database is not installed.
    """

    def __init__(self, location: StoreLocation, seed: int, sampler: str = "gp") -> None:
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
            for first in (Factors(), Factors(blocks=0.1), Factors(widths=0.1)):
                self._study.enqueue_trial(first.model_dump())

    @property
    @_reported
    def seconds(self) -> float:
        """The time used so far."""
        return float(self._study.user_attrs.get(_SECONDS, 0.0))

    @seconds.setter
    @_reported
    def seconds(self, value: float) -> None:
        self._study.set_user_attr(_SECONDS, value)

    @_reported
    def ask(self) -> tuple[int, Factors]:
        """The number of a new proposal, and the proposal."""
        trial = self._study.ask()
        return trial.number, Factors(
            blocks=trial.suggest_float("blocks", *_RANGE, log=True),
            widths=trial.suggest_float("widths", *_RANGE, log=True))

    @_reported
    def tell(self, trial: Trial, cost_ratio: float) -> None:
        """Record the first trial of a proposal; above 1, ``cost_ratio`` says it is not allowed."""
        self.add(trial)
        if trial.proposal is None:
            raise ValueError(f"{trial.name} has no proposal")
        number = trial.proposal.number
        self._attributes(number).set_constraint("cost", cost_ratio - 1.0)
        self._study.tell(number, trial.score)

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
        kept = [one for one in self.trials() if one.name != trial.name]
        self._study.set_user_attr(_TRIALS, json.dumps([one.model_dump(mode="json")
                                                       for one in (*kept, trial)]))

    @_reported
    def trials(self) -> list[Trial]:
        """Every trial kept, in the order of their recording."""
        return [Trial.model_validate(one)
                for one in json.loads(self._study.user_attrs.get(_TRIALS, "[]"))]

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
                if trial.state == optuna.trial.TrialState.RUNNING and len(trial.params) > 1]

    @_reported
    def remember(self, key: str, value: Any) -> Any:
        """Keep a value, as JSON; returns the one that an earlier process kept, if it did."""
        kept = self._study.user_attrs.get(f"{_KEPT} {key}")
        if kept is not None:
            return kept
        self._study.set_user_attr(f"{_KEPT} {key}", value)
        return value

    def _attributes(self, number: int) -> optuna.trial.Trial:
        return optuna.trial.Trial(self._study, self._study.trials[number]._trial_id)
