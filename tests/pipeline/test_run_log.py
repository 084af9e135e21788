from __future__ import annotations

from collections.abc import Mapping

from edgewright.pipeline._run_log import RunLog
from edgewright.training import EpochRecord, NoProgress, RichProgress, Score


class Memory:
    def __init__(self) -> None:
        self.written: list[str] = []

    def __call__(self, name: str, done: int) -> Memory:
        self.written.append(f"{name} after {done}")
        return self

    def write(self, values: Mapping[str, float], step: int) -> None:
        self.written += [f"{name} at {step}" for name in values]

    def close(self) -> None:
        self.written.append("closed")


def test_trainings_are_shown_unless_quiet() -> None:
    assert isinstance(RunLog().progress("recover"), RichProgress)
    assert isinstance(RunLog(quiet=True).progress("recover"), NoProgress)


def test_each_stage_is_logged_under_its_name_even_if_quiet() -> None:
    for quiet in (False, True):
        log = Memory()
        progress = RunLog(quiet, log).progress("recover")
        progress.start(1, 3, 0)
        progress.epoch(EpochRecord(1, 0.5, Score("accuracy", 0.5), 0.1, 1.0))
        progress.stop()
        assert log.written == ["recover after 0", "epoch/loss at 3", "epoch/val_accuracy at 3",
                               "epoch/lr at 3", "epoch/seconds at 3", "closed"]
