"""What the stages of a run share: original, data, seed, files, log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from edgewright.distill import CompiledTeacher, Teacher, TeacherLike, make_objective
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline.stages._final_notes import FinalNotes
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import Objective, Progress, Score, Training, evaluate_module


@final
@dataclass(frozen=True)
class StageContext:
    """What a stage works with, besides its config and its input program.

    Attributes:
        original: The captured program.
        task: The data.
        recipe: The recipe as adjusted to the model and the budget.
        seed: Seed of all random numbers.
        directory: Stores programs, records and checkpoints.
        log: The log of the run.
        given_teacher: The teacher of every training; None for the original.
        original_score: Measures the original's primary metric on the validation split; None does
            so at every call of `val_score`.
        scores_stages: Whether what every stage made is measured on the validation split.
        stage: Name of the running stage.
        decisions: Notes on the stage's decisions so far.
    """

    original: Program
    task: Task
    recipe: Recipe
    seed: int
    directory: RunDirectory
    log: RunLog
    given_teacher: Teacher | None = None
    original_score: Callable[[], Score] | None = None
    scores_stages: bool = True
    stage: str = ""
    decisions: list[str] = field(default_factory=list)

    def for_stage(self, stage: str) -> StageContext:
        """Return the context of another stage, without decisions."""
        return replace(self, stage=stage, decisions=[])

    @property
    def checkpoint(self) -> Path:
        """The checkpoint file of the stage's training."""
        return self.directory.checkpoint(self.stage)

    def record_decision(self, text: str) -> None:
        """Log a decision of the stage, and keep it for its record."""
        self.log.note(text)
        self.decisions.append(text)

    def progress(self) -> Progress:
        """Return the progress of a training, whose final notes are kept for the stage's record."""
        return FinalNotes(self.log.progress(self.stage), self.decisions)

    @property
    def teacher(self) -> TeacherLike:
        """The teacher of every training; features that it has not are learned from the original."""
        needs_program = self.recipe.distillation.features is not None
        given = self.given_teacher
        if given is None or (needs_program and not isinstance(given, CompiledTeacher)):
            return self.original
        return given

    def objective(self, training: Training | None) -> Objective:
        """Return the loss of a training of the stage, with the teacher."""
        return make_objective(self.teacher, self.task.goal, self.recipe.distillation,
                              training.label_smoothing if training else 0.0)

    def val_score(self, program: Program) -> Score:
        """Measure the primary metric of a program's last exit on the validation split."""
        if program is self.original and self.original_score is not None:
            return self.original_score()
        return evaluate_module(program.module(), self.task.val, self.task.goal)[-1]
