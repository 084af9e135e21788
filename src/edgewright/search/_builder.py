"""Building and measuring candidates in a search's directory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from edgewright.bundle import read_bundle
from edgewright.core import Figures, Measurement
from edgewright.pipeline import Result, Run, RunSettings, time_sessions
from edgewright.runtime import Session
from edgewright.search._candidate import Built, Candidate
from edgewright.search._judge import AgreementJudge
from edgewright.search._trial import Trial

TRIED: Final = "trial.edge"  # the file of a trial in its directory, before the test


@final
@dataclass(frozen=True)
class Builder:
    """Builds candidates.

    Attributes:
        settings: Model, data, budget and seed.
        folder: The search's directory.
        baseline: The original's bundle.
        session: The original's file, to time candidates against.
        original: Its figures, with its latency.
        judge: What candidates are compared by; None for the metric on the validation split.
    """

    settings: RunSettings
    folder: Path
    baseline: Path
    session: Session
    original: Figures
    judge: AgreementJudge | None = None

    def build(self, candidate: Candidate) -> Built:
        """Build a candidate's file in this process; finished stages in its directory are reused."""
        return build_file(self.settings, candidate, candidate.folder(self.folder), self.judge)

    def measure(self, candidate: Candidate, built: Built) -> Trial:
        """Time a candidate's file on this machine, in turn with the original's file.

        Args:
            candidate: The candidate, whose file is in its directory.
            built: What was measured when it was built, here or elsewhere.
        """
        since = time.perf_counter()
        session = Session(read_bundle(candidate.folder(self.folder) / TRIED))
        timed = time_sessions({"original": self.session, "trial": session}, self.settings.task.val)
        before, after = (Figures.of(*timed[name])["latency_ms"] for name in ("original", "trial"))
        latency = Measurement(
            name="latency_ms", value=after / before * self.original["latency_ms"],
            kind="measured", split="val", runtime="ratio to the original, taken in turn")
        timing = time.perf_counter() - since
        return Trial(**dict(candidate), figures=built.figures.with_(latency), score=built.score,
                     seconds=built.seconds + timing, timing_seconds=timing)

    def finish(self, trial: Trial) -> Result:
        """Verify a trial's file on the test split, and write its bundle and report."""
        run = self._open(trial)
        return run.finish(run.build())

    def _open(self, trial: Trial) -> Run:
        run = Run.open(self.settings, trial.recipe, trial.folder(self.folder), adjust=False)
        run.adopt_baseline(self.baseline)
        return run


def build_file(settings: RunSettings, candidate: Candidate, folder: Path,
               judge: AgreementJudge | None) -> Built:
    """Run a candidate's recipe, and measure its file on the validation split.

    Args:
        settings: Model, data, budget and seed.
        candidate: The candidate.
        folder: Its directory; finished stages in it are reused.
        judge: What candidates are compared by; None for the metric on the validation split.
    """
    since = time.perf_counter()
    folder.parent.mkdir(parents=True, exist_ok=True)
    run = Run.open(settings, candidate.recipe, folder, adjust=False)
    tried = run.try_out(run.build(), None if judge is None else judge.score)
    return Built(tried.figures, tried.score, time.perf_counter() - since)
