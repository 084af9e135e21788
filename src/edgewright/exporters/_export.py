"""`export`: a program to a file for one target, checked on that target's runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgewright.core import write_atomically
from edgewright.errors import UsageError
from edgewright.exporters._agreement import check_agreement, load_file
from edgewright.exporters.edge import ExecuTorchEngine, to_executorch, to_litert
from edgewright.exporters.onnx import EveryExitEngine, to_conditional_onnx, to_onnx
from edgewright.program import Program
from edgewright.runtime import Engine, LiteRtEngine, OnnxEngine
from edgewright.task import Task

ExportTarget = Literal["onnx", "executorch", "litert"]


def export(program: Program, target: ExportTarget, path: str | Path, *,
           task: Task | None = None, thresholds: Sequence[float | None] | None = None,
           temperatures: Sequence[float] | None = None) -> Path:
    """Write a program as one file for a runtime, and hold its outputs there against the program's.

    Floats have to agree to 1e-4 (relative; to a hundredth in float16). Outputs of integers may be
    as far off as one step of the program's grids, here and there, moves them.

    A program with early exits gives a file that returns the logits of all of them; with thresholds
    one that takes a single sample and leaves early, every branch of which is run.

    Args:
        program: In floating point or quantised.
        target: "onnx" (for ONNX Runtime and OpenVINO), "executorch" or "litert".
        path: The file to write.
        task: Two of its training samples are what program and file are compared on; the program's
            example inputs if left out.
        thresholds: For "onnx": top softmax probability needed to leave, one per early exit; see
            `to_conditional_onnx`.
        temperatures: They divide the logits first, one per early exit; 1 if left out.

    Raises:
        UsageError: An unknown target, or thresholds or temperatures that do not fit the target or
            the early exits.
        MissingExtraError: The target's packages are not installed.
        ModelError: The program was quantized for another target, or an operator has no
            translation; it is named.
        DataError: The task's samples do not fit the program.
        ParityError: The runtime's outputs are not the program's; no file is written.
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
    model, engine = (_translate(program, target) if thresholds is None and temperatures is None
                     else _translate_conditional(program, target, thresholds, temperatures))
    check_agreement(program, engine)
    path = Path(path)
    write_atomically(path, model)
    return path


def prove_export(program: Program) -> float:
    """Translate a program, run it on its runtime, and hold its outputs against the program's.

    Returns:
        The largest relative error of any output on `probe_inputs`.

    Raises:
        ModelError: An operator has no translation; it is named.
        ParityError: The runtime's outputs are not the program's.
    """
    return check_agreement(program, load_file(OnnxEngine, to_onnx(program)))


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
    raise UsageError(f"unknown export target {target!r}; there are: 'onnx', 'executorch', 'litert'")


def _translate_conditional(program: Program, target: ExportTarget,
                           thresholds: Sequence[float | None] | None,
                           temperatures: Sequence[float] | None) -> tuple[bytes, Engine]:
    if target != "onnx":
        raise UsageError(f"thresholds were given for the target {target!r}; only 'onnx' has files "
                         "that leave early: export without thresholds")
    if thresholds is None:
        raise UsageError("temperatures were given without thresholds; give both, one per early "
                         "exit")
    model = to_conditional_onnx(program, thresholds, temperatures=temperatures)
    return model, EveryExitEngine(model, program.exits)
