"""Reliable handling of Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

_AGAIN_S: Final = 2.0


@contextlib.contextmanager
def insistent_interrupts() -> Iterator[None]:
    """Raise an interrupt repeatedly until it leaves the block.

    Python drops exceptions that are raised in a destructor or a library's callback. A Ctrl-C that
    arrives there would be lost, and the run would continue.
    """
    usable = (hasattr(signal, "setitimer") and threading.current_thread() is
              threading.main_thread() and
              signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    if not usable:
        yield
        return
    before = signal.signal(signal.SIGALRM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, before)


def settle_interrupt() -> None:
    """Stop repeating an interrupt, because it was heard; the next Ctrl-C is a new one."""
    if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGINT) is _interrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    raise KeyboardInterrupt
