"""Microcontrollers: building networks in C for them, and running them emulated."""

from edgewright.boards._board import BOARDS, Board
from edgewright.boards._emulate import (
    COMPILER,
    EMULATOR,
    PACKAGES,
    BoardRun,
    is_available,
    run_on_board,
)

__all__ = [
    "BOARDS",
    "COMPILER",
    "EMULATOR",
    "PACKAGES",
    "Board",
    "BoardRun",
    "is_available",
    "run_on_board",
]
