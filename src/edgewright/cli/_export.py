"""``edgewright export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer
from rich.console import Console
from rich.table import Table

from edgewright.cli._refs import capture_reference
from edgewright.core import format_count, format_size
from edgewright.errors import ParityError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewright.boards import BoardRun
    from edgewright.exporters import ExportTarget
    from edgewright.integers import IntegerNetwork
    from edgewright.integers.c import CSource
    from edgewright.program import Program
    from edgewright.task import Task

_QUANTIZED_FOR: Final = {"onnx": "onnxruntime", "litert": "litert", "executorch": "executorch",
                         "c": "c"}


def export(  # noqa: PLR0913, PLR0917 - one parameter per option
    model: Annotated[str, typer.Argument(help="A saved program (.pt2), such as the last one in "
                                              "RUN/stages, or a model reference.")],
    to: Annotated[str, typer.Option(help="onnx, litert, executorch or c.")],
    out: Annotated[Path, typer.Option(help="The file to write; C has a header beside it.")],
    weights: Annotated[Path | None, typer.Option(help="Weights of a model reference.")] = None,
    data: Annotated[str | None, typer.Option(
        help="Data to quantize with, and to compare the file and the program on.")] = None,
    shape: Annotated[str | None, typer.Option(help="Alternatively, the input's shape without the "
                                                   "batch, as in 3,224,224.")] = None,
    normalize: Annotated[str | None, typer.Option(
        help="As for compress; only with --data.")] = None,
    bits: Annotated[int | None, typer.Option(
        help="Quantize the weights to 8, 4, 3, 2 bits first, for this file's runtime; needs "
             "--data. Default: the program as it is.")] = None,
    threshold: Annotated[list[float] | None, typer.Option(
        help="Confidence that suffices to leave at an early exit; once per exit. Without it, the "
             "outputs of all exits are returned.")] = None,
    board: Annotated[list[str] | None, typer.Option(
        help="Only for c: also build it for cortex-m0, -m3, -m4, -m7, -m33 or -m55, run samples "
             "there under qemu, and print flash, memory and instructions; may be repeated.",
        )] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples to run on each board.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")] = 0,
) -> None:
    """Write a model as a file for one runtime, after checking the file's answers there.

    Examples:
      edgewright export runs/a/stages/3-quantize.pt2 --to onnx --out model.onnx

      edgewright export net.py:make --weights w.safetensors --data digits --bits 8 --to c
      --out net.c --board cortex-m4 --board cortex-m0
    """
    if to not in _QUANTIZED_FOR:
        raise UsageError(f"unknown --to {to!r}; expected {', '.join(_QUANTIZED_FOR)}")
    if board and to != "c":
        raise UsageError(f"--board runs C code, but --to is {to!r}; use --to c")
    from edgewright.boards import BOARDS

    unknown = next((cpu for cpu in board or () if cpu not in BOARDS), None)
    if unknown is not None:
        raise UsageError(f"unknown --board {unknown!r}; expected {', '.join(BOARDS)}")
    if (bits is not None or normalize is not None) and data is None:
        raise UsageError("--bits and --normalize need the data's samples; give --data")
    from edgewright import exporters
    from edgewright.task import load_task

    task = None if data is None else load_task(data, normalize=normalize, seed=seed)
    program = capture_reference(model, weights, task, shape)
    if bits is not None and task is not None:
        program = _quantize(program, task, bits, to, seed)
    console = Console(highlight=False, soft_wrap=True)
    written = exporters.export(program, cast("ExportTarget", to), out, task=task,
                               thresholds=threshold or None)
    console.print(f"{written}: {format_size(written.stat().st_size)}, checked against the program")
    if to == "c":
        _show_c(console, program, written, board or [], samples, threshold, task)


def _quantize(program: Program, task: Task, bits: int, to: str, seed: int) -> Program:
    from edgewright.quantization import Quantization, quantize

    return quantize(program, task, Quantization(weights=bits, target=_QUANTIZED_FOR[to]), seed=seed)


def _show_c(console: Console, program: Program, written: Path, boards: list[str], samples: int,
            threshold: list[float] | None, task: Task | None) -> None:
    """Print what the network needs, and what it did on emulated boards."""
    from edgewright.exporters import make_exit_rules, to_integer_network
    from edgewright.integers.c import write_c

    rules = make_exit_rules(program, threshold or None, None, None if task is None else task.goal)
    network = to_integer_network(program, rules)
    source = write_c(network, written.stem)
    console.print(f"{written.with_suffix('.h')}: {format_count(network.macs)} MACs, "
                  f"{format_size(source.constant_bytes)} of constants, "
                  f"{format_size(source.memory.size)} of memory beside inputs and outputs")
    if not boards:
        return
    table = Table("processor", "samples", "flash", "memory and stack", "instructions", "per MAC",
                  title="emulated; instructions are not cycles", title_justify="left")
    inputs = _draw_inputs(network, program, samples, task)
    for cpu in boards:
        run = _run(network, source, cpu, inputs)
        table.add_row(cpu, f"{samples} equal", format_size(run.flash_bytes),
                      format_size(run.ram_bytes), format_count(run.instructions),
                      f"{run.instructions / max(1, network.macs):.2f}")
    console.print(table)


def _draw_inputs(network: IntegerNetwork, program: Program, samples: int,
                 task: Task | None) -> list[NDArray[Any]]:
    """Integers of test samples, or of the program's examples again and again."""
    import numpy as np
    from torch.utils import _pytree as pytree

    from edgewright.integers import to_integers

    given = program.example_inputs if task is None else task.test.example(samples)
    leaves = [leaf.numpy() for leaf in pytree.tree_leaves(given)]
    repeated = [np.resize(leaf, (samples, *leaf.shape[1:])) for leaf in leaves]
    return [to_integers(array, port, network.tensors[port.tensor])
            for array, port in zip(repeated, network.structure.inputs, strict=True)]


def _run(network: IntegerNetwork, source: CSource, cpu: str,
         inputs: list[NDArray[Any]]) -> BoardRun:
    """Run samples on a board, and compare every bit with what the network is defined to compute.

    Raises:
        ParityError: A result differs.
    """
    import numpy as np

    from edgewright.boards import run_on_board
    from edgewright.integers import run_exits, run_reference

    run = run_on_board(network, source, cpu, inputs)
    wanted = ((run_exits(network, inputs)[0],) if network.structure.exits
              else run_reference(network, inputs))
    for found, one in zip(run.outputs, wanted, strict=True):
        if not np.array_equal(found, one):
            raise ParityError(f"on the emulated {cpu} {np.mean(found != one):.1%} of the results "
                              "differ from the network's definition; please report the model and "
                              "the compiler's version")
    return run
