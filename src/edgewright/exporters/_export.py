"""`export`: write a program as a file for one target and check it on that target's runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgewright.core import ExitRule, write_atomically
from edgewright.errors import UsageError
from edgewright.exporters._agreement import check_agreement, load_file
from edgewright.exporters.edge import ExecuTorchEngine, to_executorch, to_litert
from edgewright.exporters.integers import make_exit_rules, to_integer_network
from edgewright.exporters.onnx import EveryExitEngine, to_conditional_onnx, to_onnx
from edgewright.goals import Goal, make_exit_confidence
from edgewright.integers.c import write_c
from edgewright.program import Program
from edgewright.runtime import CompiledEngine, Engine, LiteRtEngine, OnnxEngine
from edgewright.task import Task

ExportTarget = Literal["onnx", "executorch", "litert", "c"]


def export(program: Program, target: ExportTarget, path: str | Path, *,
           task: Task | None = None, thresholds: Sequence[float | None] | None = None,
           temperatures: Sequence[float] | None = None) -> Path:
    """Export a program to a file for one runtime, and check the file's outputs there.

    Floating-point outputs must agree to a relative error of 1e-4 (1e-2 in float16). Quantized
    outputs may differ as much as changing some integers of the program by one step changes them.

    For a program with early exits, the file returns the outputs of all exits. If thresholds are
    given, the file takes a single sample and exits early; every branch of it is checked. Use
    thresholds if the deployment needs a single file; with a bundle, the thresholds can be changed
    at run time.

    Args:
        program: A program in floating point or quantized.
        target: "onnx" (for ONNX Runtime and OpenVINO), "executorch", "litert" or "c" (C99 for
            microcontrollers and any other processor).
        path: The file to write. C has a header beside it; its functions are called like the file.
        task: Program and file are compared on two of its training samples; by default, on the
            program's example inputs. Its goal says how sure an early exit is of a sample; without a
            task exits are those of a classifier.
        thresholds: Only for "onnx" and "c": the confidence required to exit (of a classifier the
            top softmax probability), one per early exit; see `to_conditional_onnx`.
        temperatures: Divisors of a classifier's logits, one per early exit; 1 by default.

    Raises:
        UsageError: The target is unknown, or thresholds or temperatures do not fit the target or
            the early exits.
        MissingExtraError: The target's packages are not installed.
        MissingToolError: The target is "c", and this machine has no C compiler to check it with.
        ModelError: The program was quantized for another target, or an operator cannot be
            translated; the message names it.
        DataError: The task's samples do not fit the program.
        ParityError: The runtime's outputs do not match the program's; no file is written.
        StorageError: The file cannot be written.

    Example:
        >>> import tempfile, torch
        >>> program = Program.capture(torch.nn.Linear(4, 2), torch.zeros(1, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export(program, "onnx", f"{folder}/model.onnx").name
        'model.onnx'
    """
    if task is not None:
        program = program.with_examples(task.train.example(2))
    path = Path(path)
    if target == "c":
        return _export_c(program, path, make_exit_rules(
            program, thresholds, temperatures, None if task is None else task.goal))
    model, engine = (_translate(program, target) if thresholds is None and temperatures is None
                     else _translate_conditional(program, target, thresholds, temperatures,
                                                 None if task is None else task.goal))
    check_agreement(program, engine)
    write_atomically(path, model)
    return path


def prove_export(program: Program) -> float:
    """Translate a program to ONNX, run it on ONNX Runtime, and compare the outputs.

    Returns:
        The largest relative error of any output on `probe_inputs`.

    Raises:
        ModelError: An operator cannot be translated; the message names it.
        ParityError: The runtime's outputs do not match the program's.
    """
    return check_agreement(program, load_file(OnnxEngine, to_onnx(program)))


def _export_c(program: Program, path: Path, rules: Sequence[ExitRule]) -> Path:
    """Write C99 and its header, and check what this machine's compiler makes of it."""
    check_agreement(program, CompiledEngine(to_integer_network(program)))
    source = write_c(to_integer_network(program, rules), path.stem)
    write_atomically(path.with_suffix(".h"), source.header.encode())
    write_atomically(path, source.code.encode())
    return path


def _translate(program: Program, target: ExportTarget) -> tuple[bytes, Engine]:
    if target == "onnx":
        model = to_onnx(program)
        return model, load_file(OnnxEngine, model)
    if target == "executorch":
        model = to_executorch(program)
        return model, load_file(ExecuTorchEngine, model)
    if target == "litert":
        model = to_litert(program)
        return model, load_file(LiteRtEngine, model)
    raise UsageError(f"unknown export target {target!r}; expected 'onnx', 'executorch', "
                     "'litert' or 'c'")


def _translate_conditional(program: Program, target: ExportTarget,
                           thresholds: Sequence[float | None] | None,
                           temperatures: Sequence[float] | None,
                           goal: Goal | None) -> tuple[bytes, Engine]:
    if target != "onnx":
        raise UsageError(f"thresholds were given for the target {target!r}; only 'onnx' "
                         "and 'c' support early exits within the file: export without thresholds")
    if thresholds is None:
        raise UsageError("temperatures were given without thresholds; pass both, one per early "
                         "exit")
    model = to_conditional_onnx(program, thresholds, temperatures=temperatures,
                                confidence=make_exit_confidence(goal))
    return model, EveryExitEngine(model, program.exits)
