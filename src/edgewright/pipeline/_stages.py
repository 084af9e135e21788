"""The stages between capture and export, each a program to a program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import final

import torch

from edgewright.core import Figures, Measurement, StageRecord
from edgewright.distill import fit, make_objective
from edgewright.exits import EarlyExits, add_exits, limit_exits, remove_exits
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._narrator import Narrator
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._scheme import (
    precision_notes,
    refinements,
    scheme_note,
    without_gone,
    without_refinements,
)
from edgewright.pipeline._verdicts import Verdicts
from edgewright.program import Program
from edgewright.pruning import BlockPruning, WeightPruning, prune, prune_blocks, prune_weights
from edgewright.quantization import Quantization, quantize
from edgewright.task import Task, seeded
from edgewright.training import Objective, Progress, Training, evaluate_module

Pass = Callable[[Program], Program]


def _nothing(before: Program, after: Program) -> tuple[str, ...]:  # noqa: ARG001 - as others do
    return ()


@final
@dataclass(frozen=True)
class _Step:
    """A stage to be run.

    Attributes:
        name: As in the run directory.
        rewrite: What it does.
        notes: What it is going to do, in words.
        findings: What it did, in words, from the program before and after.
    """

    name: str
    rewrite: Pass
    notes: tuple[str, ...] = ()
    findings: Callable[[Program, Program], tuple[str, ...]] = _nothing


@final
@dataclass(frozen=True)
class Staged:
    """What a run's stages left behind.

    Attributes:
        program: The last stage's.
        unquantized: The one before it was quantised, the original itself where no stage had
            changed it; None where it never was.
        records: Of every stage, the original's first.
        checksum: Of the program's file.
    """

    program: Program
    unquantized: Program | None
    records: tuple[StageRecord, ...]
    checksum: str

    def without_exits(self, note: str) -> Staged:
        """The same with the exits taken off, which the record of their stage says."""
        records = tuple(record.replace(notes=(*record.notes, note))
                        if record.name == "exits" else record for record in self.records)
        unquantized = None if self.unquantized is None else remove_exits(self.unquantized)
        return replace(self, program=remove_exits(self.program), unquantized=unquantized,
                       records=records)


@final
@dataclass(frozen=True)
class Stages:
    """Runs a recipe's stages in order, keeping each in the run directory.

    Attributes:
        original: The captured program; every training has it as its teacher.
        recipe: As adapted to this model.
        notes: How it differs from the recipe that was asked for, in words.
    """

    original: Program
    task: Task
    recipe: Recipe
    notes: tuple[str, ...]
    seed: int
    directory: RunDirectory
    narrator: Narrator
    _decisions: list[str] = field(default_factory=list, init=False)  # of the stage that runs

    def run(self) -> Staged:
        """Every stage in order, or what an earlier run left of it."""
        program, unquantized = self.original, None
        records: list[StageRecord] = []
        given = self.directory.identity
        for index, step in enumerate(self._plan()):
            if step.name == "quantize":
                unquantized = program if index > 1 else self.original  # only captured till now
            key = f"{index}-{step.name}"
            program, record = self._stage(key, step, program, given)
            given = self.directory.checksum_of(key)
            records.append(record)
        return Staged(program, unquantized, tuple(records), given)

    def _plan(self) -> Iterator[_Step]:
        yield _Step("capture", lambda program: program, self.notes)
        recipe = self.recipe
        if recipe.prune is not None:
            note = (f"{recipe.prune.ratio:.0%} of the {recipe.prune.target} to go, "
                    f"by {recipe.prune.criterion}")
            yield _Step("prune", self._prune, (note,))
        if recipe.blocks is not None:
            yield _Step("blocks", self._blocks(recipe.blocks), (recipe.blocks.goal,))
        if recipe.recover is not None:
            yield _Step("recover", self._recover)
        if recipe.weights is not None:
            note = (f"{recipe.weights.goal} to be zero, "
                    f"{recipe.weights.pattern} by {recipe.weights.criterion}")
            yield _Step("weights", self._weights, (note,))
        if recipe.exits is not None:
            yield _Step("exits", self._exits)
        if (scheme := recipe.quantize) is not None:
            yield _Step("quantize", self._quantize(scheme), (scheme_note(scheme),),
                        lambda before, after: precision_notes(
                            before, after, without_gone(scheme, self.original, before)))

    def _stage(self, key: str, step: _Step, program: Program,
               given: str) -> tuple[Program, StageRecord]:
        self.narrator.begin(step.name, "; ".join(step.notes))
        found = self.directory.find(key, given)
        if not isinstance(found, str):
            self.narrator.end(found[1].seconds, found[1].figures, resumed=True)
            return found
        if found:
            self.narrator.note(f"runs again: {found}")
        since = time.perf_counter()
        self._decisions.clear()
        with seeded(self.seed):
            result = self.directory.keep(key, step.rewrite(program))
            figures = self._figures(result)
        findings = step.findings(program, result)
        record = StageRecord(name=step.name, seconds=time.perf_counter() - since, figures=figures,
                             notes=(*step.notes, *findings, *self._decisions))
        self.directory.record(key, record, given)
        for finding in findings:
            self.narrator.note(finding)
        self.narrator.end(record.seconds, figures)
        return result, record

    def _figures(self, program: Program) -> Figures:
        accuracy = self._val_accuracy(program)
        costs = program.costs()
        counted = "counted on the graph"
        return Figures.of(
            Measurement(name="accuracy", value=accuracy, kind="measured", split="val",
                        runtime=f"torch {torch.__version__}", samples=len(self.task.val)),
            Measurement(name="size_bytes", value=costs.packed_bytes, kind="modelled",
                        runtime=counted),
            Measurement(name="parameters", value=costs.parameters, kind="modelled",
                        runtime=counted),
            Measurement(name="macs", value=costs.macs, kind="modelled", runtime=counted))

    def _prune(self, program: Program) -> Program:
        return prune(program, self.task, self.recipe.prune, seed=self.seed)

    def _blocks(self, config: BlockPruning) -> Pass:
        return lambda program: prune_blocks(program, self.task, config, seed=self.seed)

    def _recover(self, program: Program) -> Program:
        return fit(program, self.task, self.recipe.recover, teacher=self.original,
                   distillation=self.recipe.distillation, seed=self.seed,
                   checkpoint=self.directory.checkpoint("recover"),
                   progress=self._progress("recover"))

    def _weights(self, program: Program) -> Program:
        return prune_weights(program, self.task, self.recipe.weights,
                             objective=self._objective(self.recipe.weights), seed=self.seed,
                             checkpoint=self.directory.checkpoint("weights"),
                             progress=self._progress("weights"))

    def _exits(self, program: Program) -> Program:
        asked = self.recipe.exits or EarlyExits()
        exits, note = limit_exits(program, asked)  # which may pay no more, now that it is small
        if note:
            self._decide(note)
        if exits is None:
            return program
        return add_exits(program, self.task, exits,
                         objective=self._objective(self.recipe.exits), seed=self.seed,
                         checkpoint=self.directory.checkpoint("exits"),
                         progress=self._progress("exits"))

    def _quantize(self, scheme: Quantization) -> Pass:
        def quantized(program: Program, config: Quantization) -> Program:
            return quantize(program, self.task, without_gone(config, self.original, program),
                            objective=self._objective(config), seed=self.seed,
                            checkpoint=self.directory.checkpoint("quantize"),
                            progress=self._progress("quantize"))

        def refined(program: Program) -> Program:
            result, plain = quantized(program, scheme), without_refinements(scheme)
            if plain is None:
                return result
            other = quantized(program, plain)
            with_it, without = self._val_accuracy(result), self._val_accuracy(other)
            if with_it >= without:
                return result
            self._decide(f"{refinements(scheme)} left out: accuracy {with_it:.2%} with it and "
                         f"{without:.2%} without (val)")
            return other

        return refined

    def _decide(self, text: str) -> None:
        """Say and record what a stage has chosen."""
        self.narrator.note(text)
        self._decisions.append(text)

    def _progress(self, stage: str) -> Progress:
        return Verdicts(self.narrator.progress(stage), self._decisions)

    def _val_accuracy(self, program: Program) -> float:
        return evaluate_module(program.module(), self.task.val)[-1]

    def _objective(self, config: WeightPruning | EarlyExits | Quantization | None) -> Objective:
        training = None if config is None else config.training
        if training is not None and not isinstance(training, Training):
            training = training.settings
        return make_objective(self.original, self.recipe.distillation,
                              training.label_smoothing if training else 0.0)
