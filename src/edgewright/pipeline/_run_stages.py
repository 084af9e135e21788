"""Run a recipe's stages in order, reusing the results of an earlier run."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from edgewright.core import Figures, Measurement, StageRecord
from edgewright.pipeline._evaluate import COUNTED
from edgewright.pipeline._exit_choice import ExitChoice
from edgewright.pipeline.stages import STAGES, Capture, Exits, Quantize, Stage, StageContext
from edgewright.program import Program
from edgewright.task import temporary_seed


@final
@dataclass(frozen=True)
class StageResults:
    """The results of a run's stages.

    Attributes:
        program: The last stage's program.
        unquantized: The program before quantization, or the original if no stage has changed it;
            None if the run does not quantize.
        records: The stages' records, the original's first.
        checksum: Checksum of the program's file.
    """

    program: Program
    unquantized: Program | None
    records: tuple[StageRecord, ...]
    checksum: str

    def with_choice(self, choice: ExitChoice) -> StageResults:
        """Return the results with what is shipped, and notes in the record of the exits' stage."""
        records = tuple(record.replace(notes=(*record.notes, *choice.notes))
                        if record.name == Exits.name else record for record in self.records)
        unquantized = None if self.unquantized is None else choice.apply(self.unquantized)
        return replace(self, program=choice.apply(self.program), unquantized=unquantized,
                       records=records)


def run_stages(context: StageContext, changes: tuple[str, ...] = ()) -> StageResults:
    """Run every stage of a recipe in order and store the results in the run directory.

    Args:
        context: The context, with the recipe as adjusted to the model.
        changes: Notes on how it differs from the requested recipe.
    """
    stages = [stage for stage in (Capture(changes), *STAGES)
              if stage.config_of(context.recipe) is not None]
    program, unquantized = context.original, None
    records: list[StageRecord] = []
    given = context.directory.identity
    for index, stage in enumerate(stages):
        if isinstance(stage, Quantize):
            unquantized = program if index > 1 else context.original  # only captured so far
        key = f"{index}-{stage.name}"
        program, record = _resume_or_run(key, stage, program, given,
                                         context.for_stage(stage.name))
        given = context.directory.checksum_of(key)
        records.append(record)
    return StageResults(program, unquantized, tuple(records), given)


def _resume_or_run(key: str, stage: Stage[Any], program: Program, given: str,
                   context: StageContext) -> tuple[Program, StageRecord]:
    """A stage's program and record, loaded from the run directory if they are intact there.

    Args:
        key: Key of the stage in the directory.
        stage: The stage.
        program: Its input program.
        given: Checksum of that program.
        context: The stage's context.
    """
    config = stage.config_of(context.recipe)
    notes = stage.describe(config)
    context.log.begin(stage.name, "; ".join(notes))
    found = context.directory.find(key, given)
    if not isinstance(found, str):
        context.log.end(found[1].seconds, found[1].figures, resumed=True)
        return found
    if found:
        context.log.note(f"runs again: {found}")
    since = time.perf_counter()
    with temporary_seed(context.seed):
        result = context.directory.keep(key, stage.run(program, config, context))
        figures = _count(result)
        if context.scores_stages:
            scored = context.original if isinstance(stage, Capture) else result
            figures = Figures.of(_score(scored, context), *figures.measurements)
    findings = stage.describe_result(program, result, config, context)
    record = StageRecord(name=stage.name, seconds=time.perf_counter() - since, figures=figures,
                         notes=(*notes, *findings, *context.decisions))
    context.directory.record(key, record, given)
    for finding in findings:
        context.log.note(finding)
    context.log.end(record.seconds, figures)
    return result, record


def _score(program: Program, context: StageContext) -> Measurement:
    """The primary metric on the validation split."""
    return Measurement.of(context.task.metric, context.val_score(program).value, split="val",
                          runtime=f"torch {torch.__version__}", samples=len(context.task.val))


def _count(program: Program) -> Figures:
    """Figures counted on the graph."""
    costs = program.costs()
    return Figures.of(
        Measurement(name="size_bytes", value=costs.packed_bytes, kind="modelled",
                    runtime=COUNTED),
        Measurement(name="parameters", value=costs.parameters, kind="modelled",
                    runtime=COUNTED),
        Measurement(name="macs", value=costs.longest_path_macs, kind="modelled",
                    runtime=COUNTED))
