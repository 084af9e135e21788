"""`make_bundle`: from a program to a bundle in one call."""

from __future__ import annotations

import os
from pathlib import Path

from edgewright.bundle import write_bundle
from edgewright.core import Figures, Manifest, Measurement
from edgewright.exits import ExitCalibration
from edgewright.exporters import prove_export
from edgewright.pipeline._compare import compare_with_program
from edgewright.pipeline._draft import draft_bundle
from edgewright.pipeline._evaluate import COUNTED, time_sessions
from edgewright.pipeline._points import (
    add_latency,
    add_operating_points,
    evaluate_operating_points,
)
from edgewright.pipeline._run_log import RunLog
from edgewright.program import Program
from edgewright.runtime import Session
from edgewright.task import Task
from edgewright.training import check_program


def make_bundle(program: Program, path: str | os.PathLike[str], task: Task | None = None, *,
                name: str | None = None, seed: int = 0) -> Manifest:
    """Write a program as a bundle, which a `Session` runs; nothing is changed or compressed.

    With a task the file's metrics, costs and latency are measured on its runtime, thresholds of
    early exits are chosen on the validation split, and program and file are compared on the test
    split. Without one the bundle has no metrics, no sample takes an early exit, and the file is
    compared with the program on the program's example inputs. `compress` also searches for a
    smaller program, and is the way to meet a budget.

    Args:
        program: In floating point or quantized. Without a task all outputs are kept, with one those
            that its goal uses, and states.
        path: The file to write.
        task: The data and the goal.
        name: What reports call the model; the file's name by default.
        seed: Seed of the choice of thresholds.

    Returns:
        The manifest as written.

    Raises:
        ModelError: An operator cannot be translated, or the outputs do not fit the goal.
        DataError: The task's samples do not fit the program.
        ParityError: The file's outputs differ from the program's; no bundle is written.
        StorageError: The file cannot be written.

    Example:
        >>> import tempfile, torch
        >>> program = Program.capture(torch.nn.Linear(4, 2), torch.randn(2, 4))
        >>> x, y = torch.randn(20, 4), torch.arange(20) % 2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bare = make_bundle(program, f"{folder}/bare.edge")
        ...     measured = make_bundle(program, f"{folder}/model.edge", Task((x, y), test=(x, y)))
        >>> bare.report.compressed.metric, measured.report.compressed.metric.name
        (None, 'accuracy')
    """
    name = name or Path(path).stem
    if task is not None:
        return _measured(program, path, task, name, seed)
    draft = draft_bundle(program, name, None)
    if not program.exits:
        prove_export(program)
    costs = program.costs()
    counted = (Measurement(name="macs", value=costs.longest_path_macs, kind="modelled",
                           runtime=COUNTED),
               Measurement(name="ram_bytes", value=costs.peak_activation_bytes, kind="modelled",
                           runtime="activations in graph order"))
    manifest = draft.manifest.with_report(
        compressed=draft.manifest.report.compressed.with_(*counted))
    return write_bundle(path, manifest, draft.segments)


def _measured(program: Program, path: str | os.PathLike[str], task: Task, name: str,
              seed: int) -> Manifest:
    check_program(program, task)
    draft = draft_bundle(program, name, task, seed=seed)
    if draft.manifest.model.points:
        draft = add_operating_points(draft, task, ExitCalibration(), seed, RunLog(quiet=True))
    session = Session(draft)
    comparison = compare_with_program(program, session, task.test, task.goal)
    figures, manifest = evaluate_operating_points(session, draft, task)
    latency = time_sessions({name: session}, task.test)[name]
    manifest = manifest.with_report(
        compressed=manifest.report.compressed.with_(*figures.measurements),
        simulated=Figures.of(*comparison.metrics), parity=comparison.parity)
    return write_bundle(path, add_latency(manifest, latency), draft.segments)
