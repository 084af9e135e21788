"""Build a network's C code for a microcontroller, and run it there, emulated."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.boards._board import BOARDS, Board
from edgewright.errors import MissingToolError, ModelError, UsageError
from edgewright.integers import IntegerNetwork, Port
from edgewright.integers.c import CSource

COMPILER: Final = "arm-none-eabi-gcc"
EMULATOR: Final = "qemu-system-arm"
PACKAGES: Final = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
_FLAGS: Final = ("-std=c99", "-O2", "-Wall", "-Wextra", "-mthumb",
                 "-ffunction-sections", "-fdata-sections")
_STACK_BYTES: Final = 16 << 10
_EXIT_BYTES: Final = 4  # the number of the exit, behind the outputs
_COUNTS: Final = np.dtype([("calibration_ticks", "<u8"), ("total_ticks", "<u8"),
                           ("most_ticks", "<u8"),
                           ("calibration_instructions", "<u4"), ("stack_bytes", "<u4")])


class BoardRun(NamedTuple):
    """What a network did on an emulated board.

    Attributes:
        outputs: Integers per output, (N, *stored shape); one where samples leave early.
        exits: The number of the exit where each sample left, (N,); None without exits.
        flash_bytes: Code and constants of the network alone.
        ram_bytes: Memory of the network alone, with its deepest stack, without inputs and outputs.
        instructions: Executed instructions per sample, the mean of all samples, to about 50.
            Instructions are not cycles.
        most_instructions: Those of the sample that took the most.
    """

    outputs: tuple[NDArray[Any], ...]
    exits: NDArray[np.int32] | None
    flash_bytes: int
    ram_bytes: int
    instructions: int
    most_instructions: int


def is_available() -> bool:
    """Whether compiler and emulator are installed."""
    return all(map(shutil.which, (COMPILER, EMULATOR)))


def run_on_board(network: IntegerNetwork, source: CSource, cpu: str,
                 inputs: Sequence[NDArray[Any]], *, timeout: float = 600.0) -> BoardRun:
    """Compile a network for a microcontroller, and run samples on it under qemu.

    Args:
        network: The network.
        source: Its code.
        cpu: The processor, one of `BOARDS`.
        inputs: Integers per input, (N, *stored shape).
        timeout: Seconds for all samples.

    Raises:
        UsageError: The processor is unknown.
        MissingToolError: Compiler or emulator are not installed.
        ModelError: The network does not fit the board's memory, or failed there.
    """
    board = BOARDS.get(cpu)
    if board is None:
        raise UsageError(f"unknown processor {cpu!r}; expected one of {', '.join(BOARDS)}")
    if not is_available():
        raise MissingToolError(f"running a network on an emulated {cpu}", PACKAGES)
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        _write_sources(folder, network, source, board)
        flash_bytes, ram_bytes = _build(folder, source, board)
        count = len(inputs[0])
        samples = [np.ascontiguousarray(array).reshape(count, -1).view(np.uint8)
                   for array in inputs]
        (folder / "samples.bin").write_bytes(np.concatenate(samples, axis=1).tobytes())
        _emulate(folder, board, timeout)
        outputs, exits = _read_outputs(folder / "results.bin", network, source, count, cpu)
        counts = np.frombuffer((folder / "counts.bin").read_bytes(), _COUNTS)[0]
    per_tick = int(counts["calibration_instructions"]) / int(counts["calibration_ticks"])
    return BoardRun(outputs, exits, flash_bytes, ram_bytes + int(counts["stack_bytes"]),
                    round(int(counts["total_ticks"]) * per_tick / count),
                    round(int(counts["most_ticks"]) * per_tick))


def _write_sources(folder: Path, network: IntegerNetwork, source: CSource, board: Board) -> None:
    (folder / f"{source.name}.c").write_text(source.code)
    (folder / f"{source.name}.h").write_text(source.header)
    (folder / "harness.c").write_text(files(__package__).joinpath("harness.c").read_text())
    (folder / "glue.c").write_text(_glue(network, source))
    (folder / "memory.ld").write_text(_linker_script(board))


def _glue(network: IntegerNetwork, source: CSource) -> str:
    """C code between the harness, which knows bytes alone, and the network's function."""
    arguments, sizes = [], {}
    for label, ports in (("input", network.structure.inputs),
                         ("output", source.outputs)):
        offset = 0
        for port in ports:
            arguments.append(f"(void *)((uint8_t *){label} + {offset})")
            offset += _bytes_of(network, port)
        sizes[label] = offset
    call = f"{source.name}_run({', '.join(arguments)});"
    if network.structure.exits:
        call = f"*(int32_t *)((uint8_t *)output + {sizes['output']}) = {call}"
        sizes["output"] += _EXIT_BYTES
    return "\n".join([
        f'#include "{source.name}.h"',
        *(f"const uint32_t {label}_bytes = {size};\n"
          f"uint8_t {label}[{size}] __attribute__((aligned(8)));" for label, size in sizes.items()),
        "void run_sample(const void *input, void *output);",
        "void run_sample(const void *input, void *output) {",
        f"    {call}", "}", ""])


def _bytes_of(network: IntegerNetwork, port: Port) -> int:
    return network.tensors[port.tensor].bytes


def _linker_script(board: Board) -> str:
    return f"""MEMORY {{
    FLASH (rx) : ORIGIN = {board.flash:#x}, LENGTH = {board.flash_bytes:#x}
    RAM (rw) : ORIGIN = {board.ram:#x}, LENGTH = {board.ram_bytes:#x}
}}
ENTRY(on_reset)
SECTIONS {{
    .text : {{ KEEP(*(.vectors)) *(.text*) *(.rodata*) . = ALIGN(4); load_data = .; }} > FLASH
    .data : AT(load_data) {{ data_begin = .; *(.data*) . = ALIGN(4); data_end = .; }} > RAM
    .bss (NOLOAD) : {{ bss_begin = .; *(.bss*) *(COMMON) . = ALIGN(8); bss_end = .; }} > RAM
    .stack (NOLOAD) : {{ stack_bottom = .; . += {_STACK_BYTES}; stack_top = .; }} > RAM
}}
"""


def _build(folder: Path, source: CSource, board: Board) -> tuple[int, int]:
    """Compile and link; return bytes of the network in flash and in memory."""
    flags = [*_FLAGS, f"-mcpu={board.cpu}", "-mfloat-abi=soft"]
    for name in (source.name, "glue", "harness"):
        extra = ["-Werror"] if name == source.name else []
        _call([COMPILER, *flags, *extra, "-c", f"{name}.c", "-o", f"{name}.o"], folder,
              f"compiling for {board.cpu}")
    _call([COMPILER, *flags, "-nostartfiles", "-T", "memory.ld", "-Wl,--gc-sections",
           "-Wl,--no-warn-rwx-segments", f"{source.name}.o", "glue.o", "harness.o", "-o",
           "board.elf"],
          folder, f"linking for {board.cpu}, with {board.flash_bytes >> 10} kB of flash and "
                  f"{board.ram_bytes >> 10} kB of memory")
    sizes = _call([COMPILER.replace("gcc", "size"), f"{source.name}.o"], folder, "measuring")
    text, data, bss = map(int, sizes.splitlines()[1].split()[:3])
    return text + data, data + bss


def _emulate(folder: Path, board: Board, timeout: float) -> None:
    command = [EMULATOR, "-machine", board.machine, "-nographic", "-monitor", "none", "-serial",
               "none", "-icount", "shift=0", "-semihosting-config", "enable=on,target=native",
               "-kernel", "board.elf"]
    _call(command, folder, f"running on an emulated {board.cpu}", timeout)


def _call(command: list[str], folder: Path, what: str, timeout: float = 300.0) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                              timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{what} took more than {timeout:.0f} s; give fewer samples, or more "
                         "time") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-600:]
        raise ModelError(f"{what} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout


def _read_outputs(path: Path, network: IntegerNetwork, source: CSource, count: int, cpu: str,
                  ) -> tuple[tuple[NDArray[Any], ...], NDArray[np.int32] | None]:
    widths = [_bytes_of(network, port) for port in source.outputs]
    ends = _EXIT_BYTES if network.structure.exits else 0
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if content.size != count * (sum(widths) + ends):
        raise ModelError(f"the emulated {cpu} wrote {content.size} bytes of results, expected "
                         f"{count * (sum(widths) + ends)}: it stopped early")
    *rows, exits = np.split(content.reshape(count, -1), np.cumsum(widths), axis=1)
    outputs = tuple(
        np.ascontiguousarray(row).view(network.tensors[port.tensor].dtype).reshape(
            count, *port.stored_shape)
        for row, port in zip(rows, source.outputs, strict=True))
    return outputs, np.ascontiguousarray(exits).view(np.int32).reshape(-1) if ends else None
