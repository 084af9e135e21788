"""Building and measuring candidates in a search's directory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from edgewright.bundle import read_bundle
from edgewright.core import Figures
from edgewright.pipeline import ORIGINAL, QuietTimer, Result, Run, RunSettings
from edgewright.runtime import Session
from edgewright.search._built import Built
from edgewright.search._candidate import Candidate
from edgewright.search._judge import AgreementJudge
from edgewright.search._latencies import TRIED, as_latency, time_together
from edgewright.search._trial import Trial


@final
@dataclass(frozen=True)
class Builder:
    """Builds candidates.

    Attributes:
        settings: Model, data, budget and seed.
        folder: The search's directory.
        baseline: The original's bundle.
        timer: Times candidates against the original's file.
        original: Its figures on the test split, with its latency.
        validated: Its figures on the validation split.
        judge: What candidates are compared by; None for the metric on the validation split.
    """

    settings: RunSettings
    folder: Path
    baseline: Path
    timer: QuietTimer
    original: Figures
    validated: Figures
    judge: AgreementJudge | None = None

    def build(self, candidate: Candidate) -> Built:
        """Build a candidate's file in this process; finished stages in its directory are reused."""
        return build_file(self.settings, candidate, candidate.folder(self.folder), self.judge,
                          self.baseline)

    def measure(self, candidate: Candidate, built: Built) -> Trial:
        """Time a candidate's file on this machine, in turn with the original's file.

        Args:
            candidate: The candidate, whose file is in its directory.
            built: What was measured when it was built, here or elsewhere.
        """
        since = time.perf_counter()
        session = Session(read_bundle(candidate.folder(self.folder) / TRIED))
        timed = self.timer.time({candidate.name: session}, self.settings.task.val)
        latency = as_latency(session, timed[candidate.name], timed[ORIGINAL], self.original)
        timing = time.perf_counter() - since
        return Trial(**dict(candidate), figures=built.figures.with_(latency), score=built.score,
                     seconds=built.seconds + timing, timing_seconds=timing, exits=built.exits)

    def time_together(self, trials: Sequence[Trial], seconds: float) -> list[Trial]:
        """Trials with latencies that were measured together; see `time_together`."""
        return time_together(trials, self.folder, self.timer, self.settings.task.val,
                             self.original, seconds=seconds)

    def finish(self, trial: Trial) -> Result:
        """Verify a trial's file on the test split, and write its bundle and report."""
        run = self._open(trial)
        return run.finish(run.build(), self.timer)

    def _open(self, trial: Trial) -> Run:
        run = Run.open(self.settings, trial.recipe, trial.folder(self.folder), adjust=False)
        run.adopt_baseline(self.baseline)
        return run


def build_file(settings: RunSettings, candidate: Candidate, folder: Path,
               judge: AgreementJudge | None, baseline: Path) -> Built:
    """Run a candidate's recipe, and measure its file on the validation split.

    Args:
        settings: Model, data, budget and seed.
        candidate: The candidate.
        folder: Its directory; finished stages in it are reused.
        judge: What candidates are compared by; None for the metric on the validation split.
        baseline: The original's bundle, which exits are compared with.
    """
    since = time.perf_counter()
    folder.parent.mkdir(parents=True, exist_ok=True)
    run = Run.open(settings, candidate.recipe, folder, adjust=False,
                   scores_stages=candidate.scores_stages)
    if candidate.recipe.exits is not None:
        run.adopt_baseline(baseline)
    tried = run.try_out(run.build(), None if judge is None else judge.score)
    return Built(tried.figures, tried.score, time.perf_counter() - since, tried.exits)
