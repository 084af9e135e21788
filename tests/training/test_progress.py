from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from edgewright.training import EpochRecord, NoProgress, RichProgress, Score

RECORD = EpochRecord(epoch=1, loss=0.5, score=Score("accuracy", 0.75, unit="fraction"), lr=0.1,
                     seconds=2.0)


def play(progress: Any) -> None:
    progress.start(epochs=2, steps=3, done=0)
    for _ in range(3):
        progress.advance(samples=4, loss=0.25)
    progress.epoch(RECORD)
    progress.note("resumed")
    progress.advance(samples=4, loss=0.125)
    progress.stop()


def written(terminal: Any, lines: Any) -> Any:
    stream = io.StringIO()
    play(RichProgress("recover", lines=lines, console=Console(
        file=stream, force_terminal=terminal, width=120, _environ={})))
    return stream.getvalue()


def test_a_terminal_gets_a_bar_with_the_figures() -> None:
    text = written(terminal=True, lines=False)
    for part in ("recover 1/2", "recover 2/2", "loss 0.125", "val accuracy 75.00%", "samples/s"):
        assert part in text


def test_the_bar_of_a_resumed_epoch_is_full_at_its_end() -> None:
    progress = RichProgress(console=Console(file=io.StringIO(), force_terminal=True, _environ={}))
    progress.start(epochs=2, steps=3, done=0)
    progress.advance(samples=4, loss=0.25)  # the others were done before
    progress.epoch(RECORD)
    assert progress._bar is not None
    assert progress._bar.tasks[0].completed == 3
    progress.stop()


def test_elsewhere_it_is_silent_unless_asked() -> None:
    assert written(terminal=False, lines=False) == ""
    assert written(terminal=False, lines=True) == (
        "recover 1/2: loss 0.5000, val accuracy 75.00%, 2.0 s\nrecover: resumed\n")


def test_it_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    progress = RichProgress(lines=True)
    play(progress)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "train 1/2" in captured.err


def test_nothing_is_shown_by_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    play(NoProgress())
    assert capsys.readouterr() == ("", "")


def test_rich_is_imported_only_when_used() -> None:
    code = "import sys, edgewright.training; print('rich.progress' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
