"""Keep the final notes of a training while showing them."""

from __future__ import annotations

from typing import final

from edgewright.training import EpochRecord, Progress


@final
class FinalNotes:
    """Forwards to another progress, and keeps the notes after the last epoch.

    Args:
        shown: The progress to forward to.
        kept: The list to which the final notes are added.
    """

    def __init__(self, shown: Progress, kept: list[str]) -> None:
        self._shown, self._kept = shown, kept
        self._latest: list[str] = []

    def start(self, epochs: int | None, steps: int, done: int) -> None:
        """Drop the notes so far: they are not final."""
        self._latest.clear()
        self._shown.start(epochs, steps, done)

    def advance(self, samples: int, loss: float) -> None:
        """Forward the step."""
        self._shown.advance(samples, loss)

    def time_left(self, seconds: float) -> None:
        """Forward the time."""
        self._shown.time_left(seconds)

    def epoch(self, record: EpochRecord) -> None:
        """Drop the notes so far: they are not final."""
        self._latest.clear()
        self._shown.epoch(record)

    def note(self, text: str) -> None:
        """Forward the note and remember it."""
        self._latest.append(text)
        self._shown.note(text)

    def stop(self) -> None:
        """Keep the notes since the last epoch."""
        self._kept.extend(self._latest)
        self._latest.clear()
        self._shown.stop()
