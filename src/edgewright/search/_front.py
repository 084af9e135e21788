"""The candidates of a search that no other dominates, and choosing another of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from edgewright.bundle import read_bundle
from edgewright.core import CONSTRAINTS, Budget, Figures
from edgewright.errors import BudgetError, StorageError, UsageError
from edgewright.pipeline import checksum
from edgewright.search._builder import TRIED
from edgewright.search._predictions import compare_predictions
from edgewright.search._storage import has_store, locate_store
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial, find_front

_FINISHED: Final = "model.edge"


@final
@dataclass(frozen=True)
class FrontEntry:
    """One file of a front.

    Attributes:
        name: Its name among the trials.
        bundle: Its bundle.
        figures: Its figures: on the test split if ``is_tested``, else on the validation split.
        is_tested: Whether it was verified on the test split.
        is_chosen: Whether it is the search's result.
    """

    name: str
    bundle: Path
    figures: Figures
    is_tested: bool
    is_chosen: bool


def read_front(folder: str | Path, store: str | None = None) -> tuple[FrontEntry, ...]:
    """The files of a search that no other dominates in size, latency and metric, smallest first.

    Candidates are compared on the validation split.

    Args:
        folder: The directory of a search.
        store: URL of the database of its trials, needed only if it has a password.

    Raises:
        StorageError: It holds no search, or its database cannot be reached.
    """
    root = Path(folder)
    trials, result = _open(root, store).trials(), root / _FINISHED
    chosen = checksum(result) if result.is_file() else ""
    return tuple(_read_entry(root, trial, chosen) for trial in find_front(trials))


def compare_with_predictions(folder: str | Path,
                             store: str | None = None) -> dict[str, tuple[float, float]]:
    """How well a search's predicted costs fit what was measured, over all of its trials.

    Args:
        folder: The directory of a search.
        store: URL of the database of its trials, needed only if it has a password.

    Returns:
        For each predicted cost, the mean relative error and Spearman's rank correlation.

    Raises:
        StorageError: It holds no search.
    """
    return compare_predictions(_open(Path(folder), store).trials(), {
        name: constraint.figure for name, constraint in CONSTRAINTS.items()})


def read_race(folder: str | Path, store: str | None = None) -> list[list[Trial]]:
    """The trials of every round of a search's race, in the order of their building.

    Args:
        folder: The directory of a search.
        store: URL of the database of its trials, needed only if it has a password.

    Raises:
        StorageError: It holds no search, or its database cannot be reached.
    """
    trials = _open(Path(folder), store).trials()
    return [[trial for trial in trials if trial.round == place]
            for place in range(1, 1 + max((trial.round for trial in trials), default=0))]


def pick(folder: str | Path, budget: Budget, out: str | Path,
         store: str | None = None) -> FrontEntry:
    """Choose the file with the best metric within a budget from a search's front.

    Nothing is trained. Limits relative to the original refer to the original of the search; limits
    on metrics are checked on the split that a file's figures are from.

    Args:
        folder: The directory of a search.
        budget: The limits.
        out: Where the bundle is copied to.
        store: URL of the database of its trials, needed only if it has a password.

    Raises:
        BudgetError: No file of the front is within the budget; the message names the nearest.
        StorageError: It holds no search, or the file cannot be written.
        UsageError: The budget limits nothing.
    """
    entries = read_front(folder, store)
    original = read_bundle(Path(folder) / _FINISHED).manifest.report.original
    if not budget.limits(original):
        raise UsageError("the budget limits nothing; give for example size=100kB")
    fitting = [entry for entry in entries if not budget.breaches(entry.figures, original)]
    if not fitting:
        nearest = min(entries, key=lambda entry: len(budget.breaches(entry.figures, original)))
        broken = "; ".join(map(str, budget.breaches(nearest.figures, original)))
        raise BudgetError(f"no file of the front in {folder} is within the budget; the nearest is "
                          f"{nearest.bundle}: {broken}")
    best = max(fitting, key=_merit)
    try:
        shutil.copyfile(best.bundle, out)
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error}") from error
    return best


def _open(root: Path, store: str | None) -> TrialStore:
    if not has_store(root):
        raise StorageError(f"{root} holds no search; give the --out of a command that was run with "
                           "a budget and without a recipe")
    return TrialStore(locate_store(root, store), seed=0)


def _read_entry(root: Path, trial: Trial, chosen: str) -> FrontEntry:
    finished = trial.folder(root) / _FINISHED
    if not finished.is_file():
        return FrontEntry(trial.name, trial.folder(root) / TRIED, trial.figures, False, False)
    figures = read_bundle(finished).manifest.report.compressed
    return FrontEntry(trial.name, finished, figures, True, checksum(finished) == chosen)


def _merit(entry: FrontEntry) -> float:
    metric = entry.figures.metric
    return 0.0 if metric is None else metric.spec.merit(metric.value)
