"""One recipe, applied to one model, in one directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

from edgewright.bundle import read_bundle, write_bundle
from edgewright.core import (
    Budget,
    Figures,
    Manifest,
    format_metric,
    format_size,
    write_atomically,
)
from edgewright.distill import Teacher
from edgewright.errors import BudgetError
from edgewright.pipeline._assemble import Assembly
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._evaluate import evaluate_operating_point
from edgewright.pipeline._exit_choice import ExitChoice
from edgewright.pipeline._identity import run_identity
from edgewright.pipeline._quiet_timer import QuietTimer
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline._run_stages import StageResults, run_stages
from edgewright.pipeline.stages import StageContext, adjust_recipe, check_recipe
from edgewright.program import Program
from edgewright.runtime import Session
from edgewright.task import Task, temporary_seed
from edgewright.training import Score, evaluate_module


@final
@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        bundle: Path of ``model.edge``.
        report: Path of ``report.html``.
        manifest: The bundle's manifest.
        program: The compressed program the bundle was exported from.
    """

    bundle: Path
    report: Path
    manifest: Manifest
    program: Program

    def check(self) -> None:
        """Raise if the budget is not met.

        Raises:
            BudgetError: The message lists every broken limit with the figure's value.
        """
        if self.manifest.report.breaches:
            broken = "; ".join(map(str, self.manifest.report.breaches))
            raise BudgetError(f"the budget is not met: {broken}. The bundle is at {self.bundle}, "
                              "marked so; allow more, or try a more thorough recipe")


@final
@dataclass(frozen=True)
class RunSettings:
    """What a run needs besides its recipe and its directory.

    Attributes:
        original: The captured model, validated against the task.
        task: The data.
        budget: Limits that are stated and checked in the result.
        seed: Seed of all random numbers.
        name: Name of the model in records.
        log: Where progress is shown.
        teacher: The teacher of every training, shared by all runs; None for the original.
    """

    original: Program
    task: Task
    budget: Budget
    seed: int
    name: str
    log: RunLog
    teacher: Teacher | None = None

    @property
    def teacher_name(self) -> str:
        """Name of the teacher; empty for the original."""
        return "" if self.teacher is None else self.teacher.name

    @cached_property
    def original_score(self) -> Score:
        """The original's primary metric on the validation split, measured once for all runs."""
        module = self.original.module()
        return evaluate_module(module, self.task.val, self.task.goal)[-1]


@final
@dataclass(frozen=True)
class TriedFile:
    """What was measured on a file before the test.

    Attributes:
        figures: Metrics on the validation split, size, and modelled costs.
        score: What it is compared by; higher is better.
        exits: What was decided about its exits; None without any.
    """

    figures: Figures
    score: float
    exits: ExitChoice | None = None


@final
@dataclass(frozen=True)
class Run:
    """A run in its directory; finished steps are reused, also those of an earlier process."""

    assembly: Assembly
    context: StageContext
    changes: tuple[str, ...] = ()

    @classmethod
    def open(cls, settings: RunSettings, recipe: Recipe, folder: Path, *,
             adjust: bool = True, scores_stages: bool = True) -> Run:
        """Open a run's directory, new or to be resumed.

        Args:
            settings: Model, data, budget and seed.
            recipe: The recipe.
            folder: The directory.
            adjust: Whether the recipe is fitted to the model and the budget.
            scores_stages: Whether what every stage made is measured on the validation split.

        Raises:
            UsageError: The recipe does not suit the model.
            BudgetError: A limit is below what the smallest program of this model needs.
            StorageError: The directory holds another run, or cannot be written.
        """
        original, task, budget = settings.original, settings.task, settings.budget
        check_recipe(recipe, original)
        adjusted, changes = (adjust_recipe(recipe, original, budget, task.goal) if adjust
                             else (recipe, ()))
        directory = RunDirectory.open(
            folder, run_identity(
                original, task, budget, recipe, settings.seed, settings.teacher_name))
        return cls(Assembly(task, budget, recipe, adjusted.exits, settings.seed, settings.name),
                   StageContext(original, task, adjusted, settings.seed, directory, settings.log,
                                settings.teacher, lambda: settings.original_score, scores_stages),
                   changes)

    def measure_baseline(self) -> Manifest:
        """Export the original and measure it on the test split, unless that is done."""
        directory, log = self.context.directory, self.context.log
        if directory.is_sealed(directory.baseline):
            return read_bundle(directory.baseline).manifest
        log.begin("baseline", "the original on its runtime")
        with temporary_seed(self.assembly.seed):
            manifest = self.assembly.baseline(self.context.original, directory.baseline)
        directory.seal(directory.baseline)
        figures = manifest.report.compressed
        metrics = ", ".join(f"{metric.name} {format_metric(metric.spec, metric.value)}"
                            for metric in figures.metrics)
        log.note(f"{metrics} (test), {format_size(figures['size_bytes'])}")
        return manifest

    def adopt_baseline(self, path: Path) -> None:
        """Use the baseline that another run of the same model, data and seed has measured.

        Raises:
            StorageError: It cannot be copied.
        """
        directory = self.context.directory
        if not directory.is_sealed(directory.baseline):
            write_atomically(directory.baseline, path.read_bytes())
            directory.seal(directory.baseline)

    def build(self) -> StageResults:
        """Run the recipe's stages."""
        return run_stages(self.context, self.changes)

    def try_out(self, results: StageResults,
                score: Callable[[Session], float] | None = None) -> TriedFile:
        """Export the program and measure the file on the validation split, except for its latency.

        The file is written beside the stages as ``trial.edge``. With early exits its figures are
        those of the default operating point, and its latency ratio is the larger one of the mean,
        which is what exits save, and the median, which a limit on the latency is about.

        Args:
            results: From `build`.
            score: What the file is compared by; None for the merit of its primary metric.
        """
        task, choice = self.context.task, self._choose_exits(results)
        draft = self.assembly.trial(choice.apply(results.program), choice)
        session = Session(draft)
        figures, _ = evaluate_operating_point(session, task.val, task.goal)
        manifest = self.assembly.record(draft.manifest, self.context.original, results, figures)
        written = write_bundle(self.context.directory.trial, manifest, draft.segments)
        size = written.report.compressed.find("size_bytes")
        return TriedFile(
            figures.with_(*filter(None, [size])),
            task.metric.merit(figures[task.metric.name]) if score is None else score(session),
            choice if results.program.exits else None)

    def finish(self, results: StageResults, timer: QuietTimer | None = None) -> Result:
        """Export, verify, measure on the test split, and write bundle and report.

        Args:
            results: From `build`.
            timer: Times the file against the baseline; None for a new one, which waits for a quiet
                machine only if the budget limits the latency.
        """
        directory, log = self.context.directory, self.context.log
        if directory.is_sealed(directory.bundle, results.checksum):
            log.note(f"this run is complete already; its bundle is {directory.bundle}")
            manifest = read_bundle(directory.bundle).manifest
            self.assembly.write_beside(manifest, directory)
        else:
            with temporary_seed(self.assembly.seed):
                manifest = self.assembly.finish(self.context.original, results, directory, log,
                                                timer)
        directory.remove_checkpoints()
        return Result(directory.bundle, directory.report, manifest,
                      self._choose_exits(results).apply(results.program))

    def _choose_exits(self, results: StageResults) -> ExitChoice:
        return self.assembly.choose_exits(results, self.context.directory, self.context.log)
