"""Timing the files of several trials together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgewright.bundle import read_bundle
from edgewright.core import Figures, Measurement
from edgewright.pipeline import ORIGINAL, TIMED_RUNS, QuietTimer, Timed
from edgewright.runtime import Session
from edgewright.search._trial import Trial
from edgewright.task import Split

TRIED: Final = "trial.edge"  # the file of a trial in its directory, before the test


def as_latency(session: Session, timed: Timed, original_timed: Timed,
               original: Figures) -> Measurement:
    """A file's latency in units of the original's, which cancels the machine's speed.

    With early exits it is the larger one of the mean, which is what exits save, and the median,
    which a limit on the latency is about.

    Args:
        session: The file.
        timed: Its latencies.
        original_timed: The original's in the same measurement.
        original: The original's figures.
    """
    names = ["latency_ms", "mean_latency_ms"] if session.model.points else ["latency_ms"]
    before, after = Figures.of(*original_timed), Figures.of(*timed)
    ratio = max(after[name] / before[name] for name in names)
    return Measurement(name="latency_ms", value=ratio * original["latency_ms"], kind="measured",
                       split="val", runtime="ratio to the original, taken in turn")


def time_together(trials: Sequence[Trial], root: Path, timer: QuietTimer, split: Split,
                  original: Figures, *, seconds: float) -> list[Trial]:
    """Time the files of trials in one measurement, so that their order does not depend on chance.

    Files that differ in their training or in their bits take the same time, so that one of each
    structure is timed, for all of them.

    Args:
        trials: The trials, the most important first.
        root: The search's directory.
        timer: Times files.
        split: The samples to run.
        original: The original's figures.
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
    sessions = {trial.name: Session(read_bundle(trial.folder(root) / TRIED))
                for trial in chosen.values()}
    timed = timer.time(sessions, split)
    found = {structure: as_latency(sessions[trial.name], timed[trial.name], timed[ORIGINAL],
                                   original) for structure, trial in chosen.items()}
    return [trial.replace(figures=trial.figures.with_(found[structure_of(trial)]))
            for trial in trials if structure_of(trial) in found]


def structure_of(trial: Trial) -> str:
    """What decides the latency of a trial's file; fewer bits are stored, not computed in."""
    exits = trial.recipe.exits
    untrained = None if exits is None else exits.replace(training=None)
    return trial.recipe.replace(exits=untrained).model_dump_json(
        include={"blocks", "prune", "exits"})
