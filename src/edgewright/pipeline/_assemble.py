"""Make the bundle from the last stage's program: export, verify on the runtime, write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from edgewright.bundle import Bundle, read_bundle, write_bundle
from edgewright.core import (
    Budget,
    Figures,
    Manifest,
    write_atomically,
)
from edgewright.exits import EarlyExits
from edgewright.pipeline._compare import compare_with_program
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._draft import draft_bundle
from edgewright.pipeline._evaluate import (
    evaluate_operating_point,
)
from edgewright.pipeline._exit_choice import ExitChoice, ExitJudge
from edgewright.pipeline._layer_records import make_layer_records
from edgewright.pipeline._points import (
    add_latency,
    add_operating_points,
    calibrate_points,
    evaluate_operating_points,
    replace_points,
)
from edgewright.pipeline._quiet_timer import ORIGINAL, QuietTimer
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline._run_stages import StageResults
from edgewright.pipeline._slow_layers import find_slow_layers
from edgewright.program import Program
from edgewright.report import render_html
from edgewright.runtime import Session
from edgewright.task import Task

_PATIENCE: Final = 30.0  # seconds that measuring latencies again on a busy machine may take


@final
@dataclass(frozen=True)
class Assembly:
    """The settings shared by a run's two bundles, the original's and the compressed one."""

    task: Task
    budget: Budget
    recipe: Recipe
    exits: EarlyExits | None
    seed: int
    model: str

    def draft(self, program: Program) -> Bundle:
        """Make a bundle in memory without figures, with which no early exits are taken."""
        return draft_bundle(program, self.model, self.task, seed=self.seed, budget=self.budget,
                            recipe=self.recipe.model_dump(mode="json"))

    def baseline(self, program: Program, path: Path) -> Manifest:
        """Export and measure the original, the denominator of every ratio."""
        draft = self.draft(program)
        figures, _ = evaluate_operating_point(Session(draft), self.task.test, self.task.goal)
        manifest = draft.manifest.with_report(
            recipe={}, budget=Budget(),
            compressed=draft.manifest.report.compressed.with_(*figures.measurements))
        return write_bundle(path, manifest, draft.segments)

    def choose_exits(self, results: StageResults, directory: RunDirectory,
                     log: RunLog) -> ExitChoice:
        """Decide what of a network with exits is shipped, unless an earlier process did."""
        if self.exits is None or not results.program.exits:
            return ExitChoice()
        config = self.exits

        def choose() -> ExitChoice:
            judge = ExitJudge(self.task, self.budget, config, self.seed, self.draft,
                              Session(read_bundle(directory.baseline)))
            choice = judge.choose(results.program)
            for note in choice.notes:
                log.note(note)
            return choice

        return directory.decide("exit-choice", results.checksum, ExitChoice, choose)

    def trial(self, program: Program, choice: ExitChoice) -> Bundle:
        """Make a bundle in memory with operating points, but without figures."""
        draft = self.draft(program)
        if self.exits is None or not program.exits:
            return draft
        return calibrate_points(draft, self.task, choice.limit(self.exits.calibration),
                                self.seed)[0]

    def record(self, manifest: Manifest, original: Program, results: StageResults,
               figures: Figures) -> Manifest:
        """A manifest with what is known before the test, so that its file is about as large."""
        return manifest.with_report(
            compressed=manifest.report.compressed.with_(*figures.measurements),
            simulated=Figures.of(*figures.metrics), stages=results.records,
            layers=make_layer_records(original.costs(), results.program.costs()))

    def finish(self, original: Program, results: StageResults, directory: RunDirectory,
               log: RunLog, timer: QuietTimer | None = None) -> Manifest:
        """Export, choose thresholds, compare, measure; write the bundle and the report.

        Raises:
            ParityError: The file's outputs differ from the program's; no bundle is written.
        """
        log.begin("export")
        choice = self.choose_exits(results, directory, log)
        results = results.with_choice(choice)
        draft = self.draft(results.program)
        if self.exits is not None and results.program.exits:
            draft = add_operating_points(draft, self.task, choice.limit(self.exits.calibration),
                                         self.seed, log)
        session = Session(draft)
        log.begin("verify", f"on {session.runtime}")
        comparison = compare_with_program(results.program, session, self.task.test,
                                          self.task.goal)
        figures, manifest = evaluate_operating_points(session, draft, self.task)
        manifest = manifest.with_report(
            compressed=draft.manifest.report.compressed.with_(*figures.measurements),
            simulated=Figures.of(*comparison.metrics),
            parity=comparison.parity,
            stages=results.records,
            layers=make_layer_records(original.costs(), results.program.costs()))
        baseline = read_bundle(directory.baseline)
        sessions = {"compressed": session}
        if results.unquantized is not None and results.unquantized is not original:
            sessions["unquantized"] = Session(replace_points(
                self.draft(results.unquantized), manifest.model.points))
        manifest = manifest.with_report(original=baseline.manifest.report.compressed)
        if timer is None:
            patience = 0.0 if self.budget.latency is None else _PATIENCE
            timer = QuietTimer(Session(baseline), patience, log)
        timed = self._add_latencies(manifest, sessions, results, timer)
        written = write_bundle(directory.bundle, timed, draft.segments,
                               finish=Manifest.with_breaches)
        self.write_beside(written, directory)
        directory.seal(directory.bundle, program=results.checksum)
        return written

    def write_beside(self, manifest: Manifest, directory: RunDirectory) -> None:
        """Write manifest, recipe and report unless the files already have this content."""
        contents = {directory.manifest: manifest.model_dump_json(indent=1),
                    directory.recipe: self.recipe.to_yaml(),
                    directory.report: render_html(manifest)}
        for file, text in contents.items():
            content = text.encode()
            if not file.is_file() or file.read_bytes() != content:
                write_atomically(file, content)

    def _add_latencies(self, manifest: Manifest, sessions: dict[str, Session],
                       results: StageResults, timer: QuietTimer) -> Manifest:
        """Add the latencies of all files, and the layers that make the compressed file slow."""
        latencies = timer.time(sessions, self.task.test)
        manifest = add_latency(manifest, latencies["compressed"]).with_report(
            original=manifest.report.original.with_(*latencies[ORIGINAL]))
        if results.unquantized is None:
            return manifest
        unquantized = latencies.get("unquantized", latencies[ORIGINAL])
        return manifest.with_report(
            unquantized=Figures.of(*unquantized),
            slow_layers=find_slow_layers(results.unquantized, results.program, latencies))
