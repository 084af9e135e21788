"""The progress of a whole search: a bar on a terminal, lines elsewhere, nothing if quiet."""

from __future__ import annotations

import io
import itertools
import time
from typing import Any

import pytest
from rich.console import Console

from edgewright.pipeline import OverallProgress, RunLog
from edgewright.training import EpochRecord, RichProgress, Score

PHASES = ("prepare", "race", "training")


def console(stream: io.StringIO, *, terminal: bool, **options: Any) -> Console:
    return Console(file=stream, force_terminal=terminal, width=160, _environ={}, **options)


def play(stream: io.StringIO, *, terminal: bool, **options: Any) -> None:
    seconds = itertools.count(60.0, 1.0)
    shown = OverallProgress(console(stream, terminal=terminal, **options), PHASES, 600,
                            lambda: next(seconds))
    shown.begin("prepare")
    shown.show_best("93.1 %, 240 kB, front of 4")
    shown.begin("race", "round 1 of 2, candidate 3 of 9")
    shown.show_activity("quantize")
    if terminal:
        time.sleep(0.4)  # a few drawings, while nothing is reported
    shown.close()


def test_a_log_gets_a_line_per_step_with_the_time_left() -> None:
    stream = io.StringIO()
    play(stream, terminal=False)
    assert stream.getvalue().splitlines() == [
        "1/3 prepare, 9:00 min left",
        "2/3 race: round 1 of 2, candidate 3 of 9, 8:59 min left; best 93.1 %, 240 kB, front of 4"]


def test_a_terminal_shows_one_bar_whose_time_goes_on_by_itself() -> None:
    stream = io.StringIO()
    play(stream, terminal=True)
    text = stream.getvalue()
    assert "2/3 race: round 1 of 2, candidate 3 of 9, quantize" in text
    assert "best 93.1 %, 240 kB, front of 4" in text
    assert "8:5" in text
    assert " left" in text


def test_nothing_is_shown_if_quiet() -> None:
    for terminal in (False, True):
        stream = io.StringIO()
        play(stream, terminal=terminal, quiet=True)
        assert stream.getvalue() == ""


def test_a_training_shares_the_display() -> None:
    stream = io.StringIO()
    shared = console(stream, terminal=True)
    shown = OverallProgress(shared, PHASES, 600, lambda: 60.0)
    shown.begin("training")
    training = RichProgress("recover", lines=True, console=shared, display=shown.bar)
    training.start(epochs=2, steps=3, done=0)
    training.advance(samples=4, loss=0.25)
    assert shown.bar is not None
    shown.bar.refresh()
    assert "recover 1/2" in stream.getvalue()
    training.epoch(EpochRecord(1, 0.5, Score("accuracy", 0.5), 0.1, 1.0))
    training.stop()
    assert [task.description for task in shown.bar.tasks] == ["3/3 training"]
    shown.close()


def test_the_log_shows_stages_in_it_while_it_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog()
    with log.overall(PHASES, 600, lambda: 60.0) as shown:
        shown.begin("race", "candidate 1 of 3")
        log.begin("quantize")
    log.begin("export")
    assert capsys.readouterr().err.splitlines() == [
        "2/3 race: candidate 1 of 3, 9:00 min left", "quantize", "export"]
