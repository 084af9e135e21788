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
from edgewright.errors import UsageError
from edgewright.exits import DEFAULT_POINT, check_goal
from edgewright.goals import Goal
from edgewright.graph import shape_of
from edgewright.measure import machine
from edgewright.pipeline._decode_steps import find_decode_steps
from edgewright.pipeline._evaluate import COUNTED
from edgewright.pipeline._identity import package_versions
from edgewright.pipeline._predictions import keep_predictions
from edgewright.pipeline._segments import input_specs, output_specs, to_segments
from edgewright.program import Program, output_structure, outputs_of
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

    Raises:
        UsageError: The program has early exits, and nothing says how sure they are.
    """
    goal = None if task is None else task.goal
    if goal is not None:
        program = keep_predictions(program, goal)
    _check_exits(program, goal)
    segments, files = to_segments(program, goal)
    point = OperatingPoint(name=DEFAULT_POINT, path=tuple(range(program.exits + 1)),
                           rules=(ExitRule(threshold=None),) * program.exits)
    costs = program.costs()
    model = ModelSpec(
        name=name, inputs=input_specs(program), outputs=output_specs(program),
        states=dict(program.states),
        structure="output_0" if program.exits else output_structure(program),
        goal="" if goal is None else goal.name,
        decoding=() if goal is None else find_decode_steps(program, goal),
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


def _check_exits(program: Program, goal: Goal | None) -> None:
    if not program.exits:
        return
    if goal is not None:
        check_goal(goal, "confidence")
        return
    shape = shape_of(outputs_of(program)[-1])
    if len(shape) != 2 or shape[1] < 2:
        raise UsageError(f"the program has {program.exits} early exits, whose output for one "
                         f"sample has the shape {shape}; give the task, whose goal says how sure "
                         "an exit is of a sample")


def _parameters(count: int) -> Measurement:
    return Measurement(name="parameters", value=count, kind="modelled", runtime=COUNTED)
