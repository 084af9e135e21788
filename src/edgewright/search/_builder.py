"""Building and measuring candidates in a search's directory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import final

from edgewright.core import Figures, Measurement
from edgewright.pipeline import Recipe, Result, Run, RunSettings
from edgewright.runtime import Session
from edgewright.search._judge import AgreementJudge
from edgewright.search._trial import Proposal, Trial


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

    def build(self, name: str, recipe: Recipe, proposal: Proposal | None = None,
              predicted: Mapping[str, float] = MappingProxyType({})) -> Trial:
        """Build a recipe's file and measure it; finished stages in its directory are reused.

        Args:
            name: Its directory below ``trials``.
            recipe: The recipe.
            proposal: What the recipe was made from.
            predicted: Its predicted costs.
        """
        since = time.perf_counter()
        run = self._open(name, recipe)
        tried = run.try_out(run.build(), self.session,
                            None if self.judge is None else self.judge.score)
        latency = Measurement(
            name="latency_ms", value=tried.latency_ratio * self.original["latency_ms"],
            kind="measured", split="val", runtime="ratio to the original, taken in turn")
        return Trial(name=name, recipe=recipe, proposal=proposal, predicted=dict(predicted),
                     figures=tried.figures.with_(latency), seconds=time.perf_counter() - since,
                     score=tried.score, exits=tried.exits)

    def finish(self, trial: Trial) -> Result:
        """Verify a trial's file on the test split, and write its bundle and report."""
        run = self._open(trial.name, trial.recipe)
        return run.finish(run.build())

    def _open(self, name: str, recipe: Recipe) -> Run:
        folder = self.folder / "trials" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        run = Run.open(self.settings, recipe, folder, adjust=False)
        run.adopt_baseline(self.baseline)
        return run
