"""A bundle in memory, before anything is measured on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgewright.bundle import Bundle
from edgewright.core import (
    Budget,
    ExitRule,
    Figures,
    Manifest,
    Measurement,
    ModelSpec,
    OperatingPoint,
    RunReport,
)
from edgewright.exits import DEFAULT_POINT
from edgewright.measure import machine
from edgewright.pipeline._decode_steps import find_decode_steps
from edgewright.pipeline._evaluate import COUNTED
from edgewright.pipeline._identity import package_versions
from edgewright.pipeline._predictions import keep_predictions
from edgewright.pipeline._segments import input_specs, output_specs, to_segments
from edgewright.program import Program, output_structure
from edgewright.task import Task


def draft_bundle(program: Program, name: str, task: Task | None, *,
                 recipe: dict[str, Any] | None = None, seed: int = 0,
                 budget: Budget | None = None) -> Bundle:
    """Make a bundle in memory without figures, with which no early exits are taken.

    Args:
        program: The program.
        name: What reports call the model.
        task: Its goal, decoding, classes and preprocessing are stored, if it is known, and outputs
            that its goal does not use are dropped.
        recipe: How the program was made, as JSON.
        seed: Seed of the run.
        budget: Limits of the run.
    """
    if task is not None:
        program = keep_predictions(program, task.goal)
    segments, files = to_segments(program)
    point = OperatingPoint(name=DEFAULT_POINT, path=tuple(range(program.exits + 1)),
                           rules=(ExitRule(threshold=None),) * program.exits)
    costs = program.costs()
    model = ModelSpec(
        name=name, inputs=input_specs(program), outputs=output_specs(program),
        states=dict(program.states),
        structure="output_0" if program.exits else output_structure(program),
        goal="" if task is None else task.goal.name,
        decoding=() if task is None else find_decode_steps(program, task.goal),
        classes=None if task is None else task.classes,
        preprocessing=None if task is None else task.preprocessing, segments=segments,
        points=(point,) if point.rules else ())
    report = RunReport(
        data="" if task is None else task.name, recipe=recipe or {}, seed=seed,
        budget=budget or Budget(), versions=package_versions(), machine=machine(),
        original=Figures(), compressed=Figures.of(_parameters(costs.parameters)),
        simulated=Figures(),
        uncounted=tuple(f"{name} x {count}" for name, count in costs.uncounted.items()))
    return Bundle(Path("draft.edge"), Manifest(model=model, report=report), files)


def _parameters(count: int) -> Measurement:
    return Measurement(name="parameters", value=count, kind="modelled", runtime=COUNTED)
