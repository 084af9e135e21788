"""Proposals and their trials in an Optuna study."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Final, final

import optuna

from edgewright.errors import StorageError
from edgewright.search._trial import Factors, Trial

_STUDY: Final = "edgewright"
_RANGE: Final = (0.03, 30.0)
_SHRINK: Final = (0.08, 0.95)
_FIRST: Final = (Factors(shrink=0.5), Factors(blocks=0.1, shrink=0.3),
                 Factors(widths=0.1, shrink=0.7))
_STARTUP: Final = 4
_TRIALS: Final = "trials"
_SECONDS: Final = "seconds"
_KEPT: Final = "kept"


@final
class TrialStore:
    """Asks Optuna for proposals, and keeps every trial in its storage.

    A proposal is an Optuna trial whose value is the score after the first round. Every trial that
    was measured, later rounds included, is kept in the study's attributes, with the time used.

    Args:
        url: The storage, such as ``sqlite:///runs/a/search.db``.
        seed: Seed of the proposals.
        sampler: ``gp`` for a Gaussian process, ``random`` as a baseline.
        shrinks: Whether to propose a size too.

    Raises:
        StorageError: The storage cannot be reached.
    """

    def __init__(self, url: str, seed: int, sampler: str = "gp", *,
                 shrinks: bool = False) -> None:
        self._names = ("blocks", "widths", *(["shrink"] if shrinks else []))
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            chosen = (optuna.samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP)
                      if sampler == "gp" else optuna.samplers.RandomSampler(seed=seed))
            try:
                self._study = optuna.create_study(
                    storage=url, study_name=_STUDY, sampler=chosen, direction="maximize",
                    load_if_exists=True)
            except Exception as error:
                raise StorageError(f"cannot open the storage of trials at {url}: "
                                   f"{' '.join(str(error).split())[:300]}") from error
        if not self._study.trials:
            for first in _FIRST:
                self._study.enqueue_trial(first.model_dump(include=set(self._names)))

    @property
    def seconds(self) -> float:
        """The time used so far."""
        return float(self._study.user_attrs.get(_SECONDS, 0.0))

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._study.set_user_attr(_SECONDS, value)

    def ask(self) -> tuple[int, Factors]:
        """The number of a new proposal, and the proposal."""
        trial = self._study.ask()
        return trial.number, Factors.model_validate({
            name: trial.suggest_float(name, *(_SHRINK if name == "shrink" else _RANGE), log=True)
            for name in self._names})

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

    def fail(self, number: int, reason: str) -> None:
        """Record that a proposal could not be tried."""
        self._attributes(number).set_user_attr("failure", reason)
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)

    def add(self, trial: Trial) -> None:
        """Keep a trial; one of the same name is replaced."""
        kept = [one for one in self.trials() if one.name != trial.name]
        self._study.set_user_attr(_TRIALS, json.dumps([one.model_dump(mode="json")
                                                       for one in (*kept, trial)]))

    def trials(self) -> list[Trial]:
        """Every trial kept, in the order of their recording."""
        return [Trial.model_validate(one)
                for one in json.loads(self._study.user_attrs.get(_TRIALS, "[]"))]

    def first_trials(self) -> list[Trial]:
        """The first trial of every proposal that was tried."""
        tried = {trial.number for trial in self._study.trials
                 if trial.state == optuna.trial.TrialState.COMPLETE}
        found: dict[int, Trial] = {}
        for trial in self.trials():
            if trial.proposal is not None and trial.proposal.number in tried:
                found.setdefault(trial.proposal.number, trial)
        return list(found.values())

    def unfinished(self) -> list[tuple[int, Factors]]:
        """Proposals that an interrupted process was trying."""
        return [(trial.number, Factors.model_validate(trial.params))
                for trial in self._study.trials
                if trial.state == optuna.trial.TrialState.RUNNING
                and len(trial.params) == len(self._names)]

    def remember(self, key: str, value: Any) -> Any:
        """Keep a value, as JSON; returns the one that an earlier process kept, if it did."""
        kept = self._study.user_attrs.get(f"{_KEPT} {key}")
        if kept is not None:
            return kept
        self._study.set_user_attr(f"{_KEPT} {key}", value)
        return value

    def _attributes(self, number: int) -> optuna.trial.Trial:
        return optuna.trial.Trial(self._study, self._study.trials[number]._trial_id)


def database_url(folder: Path) -> str:
    """The default storage of a search's directory."""
    return f"sqlite:///{folder.resolve() / 'search.db'}"
