"""Another file of a search's front."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from edgewright.bundle import read_bundle
from edgewright.core import Breach, Budget, Figures, Manifest, SearchRecord, TrialRecord
from edgewright.errors import BudgetError, UsageError
from edgewright.pipeline import measure_on_test, write_measured
from edgewright.search._latencies import TRIED
from edgewright.search._record import read_record
from edgewright.task import Task

_TRIALS: Final = "trials"


@final
@dataclass(frozen=True)
class PickedFile:
    """A file that was taken from a search's front.

    Attributes:
        name: Its name among the candidates.
        bundle: Where it was written.
        manifest: Its manifest.
        is_tested: Whether its metrics are those on the test split.
    """

    name: str
    bundle: Path
    manifest: Manifest
    is_tested: bool

    def check(self) -> None:
        """Raise if the budget is not met.

        Raises:
            BudgetError: The message lists every broken limit.
        """
        broken = "; ".join(map(str, self.manifest.report.breaches))
        if broken:
            raise BudgetError(f"the budget is not met: {broken}. The bundle is at {self.bundle}, "
                              "marked so")


def pick(folder: str | Path, budget: Budget, out: str | Path,
         task: Task | None = None, *, store: str | None = None) -> PickedFile:
    """Take the file with the best score within a budget from a search's front.

    Nothing is trained. Limits relative to the original refer to the original of the search; limits
    on metrics are checked on the split that a file's metrics are from: the test split if the search
    has verified it, else the validation split. The test split selects nothing: a file that breaks
    a limit only there is written, and marked so.

    Args:
        folder: The directory of a search.
        budget: The limits.
        out: Where the bundle is written.
        task: The data, to verify a file on the test split that the search has not verified there.
        store: URL of the database of its trials, needed only if it has a password.

    Raises:
        BudgetError: No file of the front is within the budget; the message names the nearest.
        DataError: The data is not that of the search.
        ParityError: The original's metrics on the data are not those of the search.
        StorageError: The directory holds no search, or the file cannot be written.
        UsageError: The budget limits nothing.
    """
    root, record = Path(folder), read_record(folder, store)
    if not budget.limits(record.original):
        raise UsageError("the budget limits nothing; give for example size=100kB")
    trial = _best_within(record, budget, root)
    source = _file(root, trial)
    figures, original = trial.stated, _original(record, trial, root)
    is_tested = trial.tested is not None
    if task is not None and not is_tested:
        figures, original = measure_on_test(source, root / _TRIALS / "quantized" / "baseline.edge",
                                            task)
        is_tested = True
    manifest = write_measured(source, Path(out), figures, original, budget=budget)
    return PickedFile(trial.name, Path(out), manifest, is_tested)


def _best_within(record: SearchRecord, budget: Budget, root: Path) -> TrialRecord:
    """The trial of the front with the best score that breaks no limit."""
    front = [record.trial(name) for name in record.front]
    broken = {trial.name: budget.breaches(trial.stated, _original(record, trial, root))
              for trial in front}
    fitting = [trial for trial in front if not broken[trial.name]]
    if fitting:
        return max(fitting, key=lambda trial: trial.score)
    nearest = min(front, key=lambda trial: (len(broken[trial.name]),
                                            max(map(_excess, broken[trial.name]))))
    raise BudgetError(f"no file of the front in {root} is within the budget; the nearest is "
                      f"{nearest.name}: {'; '.join(map(str, broken[nearest.name]))}")


def _excess(breach: Breach) -> float:
    """How far a limit is missed, relative to it."""
    if breach.value is None:
        return float("inf")
    return abs(breach.value - breach.limit) / max(abs(breach.limit), 1e-12)


def _file(root: Path, trial: TrialRecord) -> Path:
    """Its bundle, verified if it was tested."""
    return root / _TRIALS / trial.name / (TRIED if trial.tested is None else "model.edge")


def _original(record: SearchRecord, trial: TrialRecord, root: Path) -> Figures:
    """The original's figures, measured as the trial's were: on one split, in turn."""
    if trial.tested is not None:
        return read_bundle(_file(root, trial)).manifest.report.original
    return record.original.with_(*record.validated.metrics)
