"""An interrupt that Python drops on the way is raised again."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from edgewright.cli._interrupt import insistent_interrupts

DROPPED = """\
import os, signal, time
from edgewright.cli._interrupt import insistent_interrupts

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

try:
    with insistent_interrupts():
        Dropping()
        print("dropped", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("heard")
"""


def test_an_interrupt_in_a_destructor_is_heard_after_all() -> None:
    done = subprocess.run([sys.executable, "-c", DROPPED], check=False, capture_output=True,
                          text=True, timeout=50)
    assert done.stdout.split() == ["dropped", "heard"]


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt), insistent_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_program_with_handlers_of_its_own_keeps_them() -> None:
    mine = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with insistent_interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, mine)
