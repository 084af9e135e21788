"""An interrupt that Python drops on the way is raised again."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from edgewright._interrupts import insistent_interrupts

DROPPED = """\
import os, signal, time
from edgewright._interrupts import insistent_interrupts

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


SETTLED = """\
import signal, time
from edgewright._interrupts import insistent_interrupts, settle_interrupt

with insistent_interrupts():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        settle_interrupt()
        time.sleep(2.5)
        print("in peace", flush=True)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            settle_interrupt()
            print("again")
"""


def test_an_interrupt_that_was_settled_is_not_repeated_but_the_next_one_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", SETTLED], check=False, capture_output=True,
                          text=True, timeout=50)
    assert done.stdout.splitlines() == ["in peace", "again"], done.stderr


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
