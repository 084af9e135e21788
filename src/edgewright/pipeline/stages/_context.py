"""What the stages of a run share: original, data, seed, files, log."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from edgewright.distill import make_objective
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline.stages._final_notes import FinalNotes
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import Objective, Progress, Training, evaluate_module


@final
@dataclass(frozen=True)
class StageContext:
    """What a stage works with, besides its config and the program it is given.

    Attributes:
        original: The captured program; every training has it as its teacher.
        task: The data.
        recipe: As fitted to the model and the budget.
        seed: Of everything random.
        directory: Keeps programs, records and checkpoints.
        log: Shows what happens.
        stage: Name of the stage that runs.
        decisions: What that stage has decided so far, in words.
    """

    original: Program
    task: Task
    recipe: Recipe
    seed: int
    directory: RunDirectory
    log: RunLog
    stage: str = ""
    decisions: list[str] = field(default_factory=list)

    def for_stage(self, stage: str) -> StageContext:
        """Return the context of a stage that has decided nothing yet."""
        return replace(self, stage=stage, decisions=[])

    @property
    def checkpoint(self) -> Path:
        """Where the stage keeps the state of its training."""
        return self.directory.checkpoint(self.stage)

    def record_decision(self, text: str) -> None:
        """Log what the stage has decided, and keep it for its record."""
        self.log.note(text)
        self.decisions.append(text)

    def progress(self) -> Progress:
        """Return what shows a training of the stage, and keeps how it ended for its record."""
        return FinalNotes(self.log.progress(self.stage), self.decisions)

    def objective(self, training: Training | None) -> Objective:
        """Return the loss of a training of the stage, with the original as its teacher."""
        return make_objective(self.original, self.recipe.distillation,
                             training.label_smoothing if training else 0.0)

    def val_accuracy(self, program: Program) -> float:
        """Measure the accuracy of a program's last output on the validation split."""
        return evaluate_module(program.module(), self.task.val)[-1]
