"""The stages between capture and export, each a program to a program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import torch

from edgewright.core import Figures, Measurement, StageRecord
from edgewright.distill import fit, objective_for
from edgewright.exits import EarlyExits, add_exits
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._narrator import Narrator
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._seeded import seeded
from edgewright.program import Program
from edgewright.pruning import BlockPruning, WeightPruning, prune, prune_blocks, prune_weights
from edgewright.quantization import Quantization, quantize
from edgewright.task import Task
from edgewright.training import Objective, evaluate_module

Pass = Callable[[Program], Program]


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

    def run(self) -> tuple[Program, tuple[StageRecord, ...]]:
        """The last stage's program, and every stage's record, the original's first."""
        program = self.original
        records: list[StageRecord] = []
        for index, (name, rewrite, notes) in enumerate(self._plan()):
            program, record = self._stage(f"{index}-{name}", name, rewrite, program, notes)
            records.append(record)
        return program, tuple(records)

    def _plan(self) -> Iterator[tuple[str, Pass, tuple[str, ...]]]:
        yield "capture", lambda program: program, self.notes
        recipe = self.recipe
        if recipe.prune is not None:
            note = (f"{recipe.prune.ratio:.0%} of the {recipe.prune.target} to go, "
                    f"by {recipe.prune.criterion}")
            yield "prune", self._prune, (note,)
        if recipe.blocks is not None:
            yield "blocks", self._blocks(recipe.blocks), (recipe.blocks.goal,)
        if recipe.recover is not None:
            yield "recover", self._recover, ()
        if recipe.weights is not None:
            note = (f"{recipe.weights.sparsity:.0%} of the weights to be zero, "
                    f"{recipe.weights.pattern} by {recipe.weights.criterion}")
            yield "weights", self._weights, (note,)
        if recipe.exits is not None:
            yield "exits", self._exits, ()
        if recipe.quantize is not None:
            yield "quantize", self._quantize, (recipe.quantize.method,)

    def _stage(self, key: str, name: str, rewrite: Pass, program: Program,
               notes: tuple[str, ...]) -> tuple[Program, StageRecord]:
        self.narrator.begin(name, "; ".join(notes))
        found = self.directory.find(key)
        if found is not None:
            self.narrator.end(found[1].seconds, found[1].figures, resumed=True)
            return found
        since = time.perf_counter()
        with seeded(self.seed):
            result = self.directory.keep(key, rewrite(program))
            figures = self._figures(result)
        record = StageRecord(name=name, seconds=time.perf_counter() - since, figures=figures,
                             notes=notes)
        self.directory.record(key, record)
        self.narrator.end(record.seconds, figures)
        return result, record

    def _figures(self, program: Program) -> Figures:
        accuracy = evaluate_module(program.module(), self.task.val)[-1]
        costs = program.costs()
        counted = "counted on the graph"
        return Figures.of(
            Measurement(name="accuracy", value=accuracy, kind="measured", split="val",
                        runtime=f"torch {torch.__version__}", samples=len(self.task.val)),
            Measurement(name="size_bytes", value=costs.weight_bytes, kind="modelled",
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
                   progress=self.narrator.progress("recover"))

    def _weights(self, program: Program) -> Program:
        return prune_weights(program, self.task, self.recipe.weights,
                             objective=self._objective(self.recipe.weights), seed=self.seed,
                             checkpoint=self.directory.checkpoint("weights"),
                             progress=self.narrator.progress("weights"))

    def _exits(self, program: Program) -> Program:
        return add_exits(program, self.task, self.recipe.exits,
                         objective=self._objective(self.recipe.exits), seed=self.seed,
                         checkpoint=self.directory.checkpoint("exits"),
                         progress=self.narrator.progress("exits"))

    def _quantize(self, program: Program) -> Program:
        return quantize(program, self.task, self.recipe.quantize,
                        objective=self._objective(self.recipe.quantize), seed=self.seed,
                        checkpoint=self.directory.checkpoint("quantize"),
                        progress=self.narrator.progress("quantize"))

    def _objective(self, config: WeightPruning | EarlyExits | Quantization | None) -> Objective:
        training = None if config is None else config.training
        return objective_for(self.original, self.recipe.distillation,
                             training.label_smoothing if training else 0.0)
