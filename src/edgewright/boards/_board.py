"""Microcontrollers that qemu emulates, and how code for them is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Board(NamedTuple):
    """An emulated microcontroller.

    Attributes:
        cpu: The processor that code is compiled for, as the compiler calls it.
        machine: The machine that qemu emulates.
        flash: Address of its flash, from which it starts.
        flash_bytes: Size of its flash.
        ram: Address of its memory.
        ram_bytes: Size of its memory.
        runs_on: The emulated processor, if it is another one that runs the same instructions.
    """

    cpu: str
    machine: str
    flash: int
    flash_bytes: int
    ram: int
    ram_bytes: int
    runs_on: str = ""


_MPS2: Final = (0x0, 4 << 20, 0x20000000, 4 << 20)

BOARDS: Final[Mapping[str, Board]] = MappingProxyType({board.cpu: board for board in (
    # no machine with a Cortex-M0 has the memory of a network for images; ARMv6-M is part of ARMv7-M
    Board("cortex-m0", "mps2-an385", *_MPS2, runs_on="cortex-m3"),
    Board("cortex-m3", "mps2-an385", *_MPS2),
    Board("cortex-m4", "mps2-an386", *_MPS2),
    Board("cortex-m7", "mps2-an500", *_MPS2),
    Board("cortex-m33", "mps2-an505", 0x10000000, 4 << 20, 0x38000000, 4 << 20),
    Board("cortex-m55", "mps3-an547", 0x0, 512 << 10, 0x20000000, 512 << 10),
)})
