"""From the last stage's program to the bundle: export, verify on the runtime, write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from edgewright.bundle import Bundle, read_bundle, write_bundle
from edgewright.core import (
    Budget,
    ExitRule,
    Figures,
    Manifest,
    Measurement,
    ModelSpec,
    OperatingPoint,
    RunReport,
    write_atomically,
)
from edgewright.exits import DEFAULT_POINT, EarlyExits
from edgewright.measure import machine
from edgewright.pipeline._bundling import (
    input_specs,
    layer_records,
    output_specs,
    package_versions,
    to_segments,
)
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._judge import compare_with_program, judge, time_sessions
from edgewright.pipeline._narrator import Narrator
from edgewright.pipeline._points import any_leaves_early, calibrated, judged, with_points
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._slow_layers import slow_layers
from edgewright.pipeline._stages import Staged
from edgewright.program import Program
from edgewright.report import render_html
from edgewright.runtime import Session
from edgewright.task import Task

UNUSED_EXITS: Final = ("exits taken off again: no validation sample would leave by one within the "
                       "drop allowed, so they would only cost")
_COUNTED: Final = "counted on the graph"


@final
@dataclass(frozen=True)
class Assembly:
    """What is the same for a run's two bundles, the original's and the compressed one."""

    task: Task
    budget: Budget
    recipe: Recipe
    exits: EarlyExits | None
    seed: int
    model: str

    def draft(self, program: Program) -> Bundle:
        """A bundle in memory, with no figures yet; nobody leaves it early."""
        segments, files = to_segments(program)
        point = OperatingPoint(name=DEFAULT_POINT, path=tuple(range(len(segments))),
                               rules=(ExitRule(threshold=None),) * (len(segments) - 1))
        costs = program.costs()
        model = ModelSpec(
            name=self.model, inputs=input_specs(program), outputs=output_specs(program),
            classes=self.task.classes, preprocessing=self.task.preprocessing, segments=segments,
            points=(point,) if point.rules else ())
        report = RunReport(
            data=self.task.name, recipe=self.recipe.model_dump(mode="json"), seed=self.seed,
            budget=self.budget, versions=package_versions(), machine=machine(), original=Figures(),
            compressed=Figures.of(_parameters(costs.parameters)), simulated=Figures(),
            uncounted=tuple(f"{name} x {count}" for name, count in costs.uncounted.items()))
        return Bundle(Path("draft.edge"), Manifest(model=model, report=report), files)

    def baseline(self, program: Program, path: Path) -> Manifest:
        """Export and measure the original, the denominator of every ratio."""
        draft = self.draft(program)
        figures, _ = judge(Session(draft), self.task.test)
        manifest = draft.manifest.with_report(
            recipe={}, budget=Budget(),
            compressed=draft.manifest.report.compressed.with_(*figures.measurements))
        return write_bundle(path, manifest, draft.segments)

    def finish(self, original: Program, staged: Staged, directory: RunDirectory,
               narrator: Narrator) -> Manifest:
        """Export, choose thresholds, compare, measure; write the bundle and the report.

        Raises:
            ParityError: The file does not compute what the program does; no bundle is written.
        """
        narrator.begin("export")
        staged, draft = self._exported(staged, narrator)
        session = Session(draft)
        narrator.begin("verify", f"on {session.runtime}")
        simulation = compare_with_program(staged.program, session, self.task.test)
        figures, manifest = judged(session, draft, self.task)
        manifest = manifest.with_report(
            compressed=draft.manifest.report.compressed.with_(*figures.measurements),
            simulated=Figures.of(simulation.accuracy),
            parity=simulation.parity,
            stages=staged.records,
            layers=layer_records(original.costs(), staged.program.costs()))
        baseline = read_bundle(directory.baseline)
        sessions = {"original": Session(baseline), "compressed": session}
        if staged.unquantized is not None and staged.unquantized is not original:
            sessions["unquantized"] = Session(with_points(
                self.draft(staged.unquantized), manifest.model.points))
        manifest = manifest.with_report(original=baseline.manifest.report.compressed)
        timed = self._timed(manifest, sessions, staged)
        written = write_bundle(directory.bundle, timed, draft.segments, finish=_with_breaches)
        self.write_beside(written, directory)
        directory.seal(directory.bundle, program=staged.checksum)
        return written

    def _exported(self, staged: Staged, narrator: Narrator) -> tuple[Staged, Bundle]:
        """The bundle with its operating points; exits that no sample leaves by are taken off."""
        draft = self.draft(staged.program)
        if self.exits is None or not draft.manifest.model.points:
            return staged, draft
        draft = calibrated(draft, self.task, self.exits, self.seed, narrator)
        if any_leaves_early(draft.manifest.model.points):
            return staged, draft
        narrator.note(UNUSED_EXITS)
        staged = staged.without_exits(UNUSED_EXITS)
        return staged, self.draft(staged.program)

    def write_beside(self, manifest: Manifest, directory: RunDirectory) -> None:
        """Write manifest, recipe and report, where they are not there as this run left them."""
        contents = {directory.manifest: manifest.model_dump_json(indent=1),
                    directory.recipe: self.recipe.to_yaml(),
                    directory.report: render_html(manifest)}
        for file, text in contents.items():
            content = text.encode()
            if not file.is_file() or file.read_bytes() != content:
                write_atomically(file, content)

    def _timed(self, manifest: Manifest, sessions: dict[str, Session], staged: Staged) -> Manifest:
        """The manifest with the latencies of all files, and what costs those that are slow."""
        latencies = time_sessions(sessions, self.task.test)
        points = tuple(point.replace(figures=point.figures.with_(*latencies["compressed"]))
                       if index == 0 else point
                       for index, point in enumerate(manifest.model.points))
        manifest = manifest.with_model(points=points).with_report(
            original=manifest.report.original.with_(*latencies["original"]),
            compressed=manifest.report.compressed.with_(*latencies["compressed"]))
        if staged.unquantized is None:
            return manifest
        unquantized = latencies.get("unquantized", latencies["original"])
        return manifest.with_report(
            unquantized=Figures.of(*unquantized),
            slow_layers=slow_layers(staged.unquantized, staged.program, latencies))


def _with_breaches(manifest: Manifest) -> Manifest:
    """The manifest with every limit that its figures break."""
    report = manifest.report
    return manifest.with_report(
        breaches=report.budget.breaches(report.compressed, report.original))


def _parameters(count: int) -> Measurement:
    return Measurement(name="parameters", value=count, kind="modelled", runtime=_COUNTED)
