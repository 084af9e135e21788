"""Timing files while no other program disturbs the machine, as far as waiting helps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, final

from edgewright.core import Figures, Measurement
from edgewright.pipeline._evaluate import time_sessions
from edgewright.pipeline._run_log import RunLog
from edgewright.runtime import Session
from edgewright.task import Split

ORIGINAL: Final = "original"
_DISTURBED: Final = 0.08     # how much slower the original is than it has been
_PAUSES: Final = (0.0, 1.0, 3.0, 9.0)  # seconds before each attempt
_SETTLING: Final = 3         # attempts of the first measurement, which has nothing to compare with

Timed = tuple[Measurement, ...]


@final
class QuietTimer:
    """Times files in turn with the original's file, and again if the machine was busy.

    Other programs on the same processor add about the same time to a small and to a large file,
    which changes even their ratio. The original is part of every measurement, so that it tells
    whether one was disturbed: then it took longer than it has before.

    Args:
        session: The original's file.
        patience: Seconds that all further attempts together may take; 0 measures once, and says
            nothing.
        log: Says when the machine did not become quiet.
        measure: Times sessions by name on a split.
        sleep: Waits for a number of seconds.
    """

    def __init__(self, session: Session, patience: float, log: RunLog,
                 measure: Callable[[dict[str, Session], Split], dict[str, Timed]] | None = None,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self.session, self._log = session, log
        self._measure, self._sleep = measure or time_sessions, sleep
        self._waits, self._left = patience > 0, patience
        self._least_ms = float("inf")  # latency of the original in the quietest measurement

    def time_original(self, split: Split) -> Timed:
        """The original's latencies on a split's samples, the least of a few measurements."""
        attempts = _SETTLING if self._waits else 1
        return min((self._attempt({}, split) for _ in range(attempts)),
                   key=_original_ms)[ORIGINAL]

    def time(self, sessions: Mapping[str, Session], split: Split) -> dict[str, Timed]:
        """Latencies of files and of the original, by name, from the quietest attempt."""
        if self._least_ms == float("inf") and self._waits:
            self.time_original(split)
        attempts: list[dict[str, Timed]] = []
        for pause in _PAUSES:
            since = time.perf_counter()
            self._sleep(pause)
            attempts.append(self._attempt(sessions, split))
            if not self._is_disturbed(attempts[-1]):
                return attempts[-1]
            if len(attempts) > 1:
                self._left -= time.perf_counter() - since
            if self._left <= 0:
                break
        found = min(attempts, key=_original_ms)
        if self._waits:
            excess = _original_ms(found) / self._least_ms - 1
            self._log.note(f"the machine was busy while latencies were measured: the original "
                           f"took {excess:.0%} longer than at best")
        return found

    def _attempt(self, sessions: Mapping[str, Session], split: Split) -> dict[str, Timed]:
        found = self._measure({ORIGINAL: self.session, **sessions}, split)
        self._least_ms = min(self._least_ms, _original_ms(found))
        return found

    def _is_disturbed(self, timed: dict[str, Timed]) -> bool:
        return _original_ms(timed) > (1 + _DISTURBED) * self._least_ms


def _original_ms(timed: dict[str, Timed]) -> float:
    return Figures.of(*timed[ORIGINAL])["latency_ms"]
