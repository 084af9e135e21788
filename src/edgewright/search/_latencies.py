"""Timing the files of several trials together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgewright.bundle import read_bundle
from edgewright.core import Figures, Measurement
from edgewright.pipeline import TIMED_RUNS, time_sessions
from edgewright.runtime import Session
from edgewright.search._trial import Trial
from edgewright.task import Split

_TRIED: Final = "trial.edge"
_ORIGINAL: Final = "original"


def as_latency(latency_ms: float, original_ms: float, original: Figures) -> Measurement:
    """A latency in units of the original's, as first measured, which both speeds cancel out of.

    Args:
        latency_ms: Latency of a file.
        original_ms: Latency of the original in the same measurement.
        original: The original's figures.
    """
    return Measurement(
        name="latency_ms", value=latency_ms / original_ms * original["latency_ms"],
        kind="measured", split="val", runtime="ratio to the original, taken in turn")


def time_together(trials: Sequence[Trial], root: Path, session: Session, original: Figures,
                  split: Split, *, seconds: float) -> list[Trial]:
    """Time the files of trials in one measurement, so that their order does not depend on chance.

    Files that differ in their training or in their bits take the same time, so that one of each
    structure is timed, for all of them.

    Args:
        trials: The trials, the most important first.
        root: The search's directory.
        session: The original's file.
        original: The original's figures.
        split: The samples to run.
        seconds: Trials at the end are left out if all would take longer than about this; the first
            two never are.

    Returns:
        The trials of the structures that were timed, with their new latencies.
    """
    chosen: dict[str, Trial] = {}
    left = seconds - TIMED_RUNS * original["latency_ms"] / 1000
    for trial in trials:
        if structure_of(trial) not in chosen:
            left -= TIMED_RUNS * trial.figures["latency_ms"] / 1000
            if left < 0 and len(chosen) > 1:
                break
            chosen[structure_of(trial)] = trial
    sessions = {trial.name: Session(read_bundle(trial.folder(root) / _TRIED))
                for trial in chosen.values()}
    timed = {name: Figures.of(*found)["latency_ms"] for name, found in time_sessions(
        {_ORIGINAL: session, **sessions}, split).items()}
    return [trial.replace(figures=trial.figures.with_(as_latency(
                timed[chosen[structure_of(trial)].name], timed[_ORIGINAL], original)))
            for trial in trials if structure_of(trial) in chosen]


def structure_of(trial: Trial) -> str:
    """What decides the latency of a trial's file; fewer bits are stored, not computed in."""
    return trial.recipe.model_dump_json(include={"blocks", "prune"})
