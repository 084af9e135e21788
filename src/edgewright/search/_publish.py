"""The result of a search in its directory, also of one that was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from edgewright._interrupts import settle_interrupt
from edgewright.bundle import read_bundle
from edgewright.core import Figures, Manifest, write_atomically
from edgewright.pipeline import Result, RunDirectory, write_measured
from edgewright.report import render_html
from edgewright.search._builder import Builder
from edgewright.search._progress import SearchProgress
from edgewright.search._record import make_record
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial


class SearchInterrupted(KeyboardInterrupt):
    """A search was interrupted, and its best file so far was published.

    Attributes:
        bundle: Path of ``model.edge``.
        report: Path of ``report.html``.
        manifest: The bundle's manifest; its report says in ``unfinished`` how the search goes on.
    """

    def __init__(self, bundle: Path, report: Path, manifest: Manifest) -> None:
        super().__init__(manifest.report.unfinished)
        self.bundle, self.report, self.manifest = bundle, report, manifest


@final
@dataclass(frozen=True)
class Publisher:
    """Publishes the files of one candidate as the result of a search.

    Attributes:
        directory: The search's directory.
        store: Its trials.
        builder: Builds the candidates.
        progress: Counts the time.
        command: What continues the search.
    """

    directory: RunDirectory
    store: TrialStore
    builder: Builder
    progress: SearchProgress
    command: str

    def publish(self, trial: Trial, result: Result) -> Result:
        """Copy the verified files of a candidate."""
        directory, source = self.directory, result.bundle.parent
        for file in (directory.bundle, directory.manifest, directory.recipe):
            write_atomically(file, (source / file.name).read_bytes())
        self._write_report(trial, result.manifest)
        return replace(result, bundle=directory.bundle, report=directory.report)

    def publish_interrupted(self, trial: Trial) -> SearchInterrupted:
        """Write the file of a candidate with what was measured on it so far."""
        directory, folder = self.directory, trial.folder(self.directory.path)
        tested = folder / directory.bundle.name
        if tested.is_file():
            report = read_bundle(tested).manifest.report
            source, figures, original = tested, report.compressed, report.original
        else:
            source, figures = folder / directory.trial.name, trial.figures
            original = self.builder.original.with_(*self.builder.validated.metrics)
        manifest = write_measured(
            source, directory.bundle, figures, original, budget=self.builder.settings.budget,
            unfinished=_explain(figures, self.command))
        write_atomically(directory.manifest, manifest.model_dump_json(indent=1).encode())
        write_atomically(directory.recipe, trial.recipe.to_yaml().encode())
        self._write_report(trial, manifest)
        return SearchInterrupted(directory.bundle, directory.report, manifest)

    def _write_report(self, trial: Trial, manifest: Manifest) -> None:
        directory = self.directory
        directory.seal(directory.bundle)
        self.store.chosen = trial.name
        self.progress.save()
        record = make_record(self.store, directory.path)
        write_atomically(directory.search, record.model_dump_json(indent=1).encode())
        write_atomically(directory.report, render_html(manifest, record).encode())


def _explain(figures: Figures, command: str) -> str:
    metric = figures.metric
    where = ("" if metric is None or metric.split == "test" else
             "; its metrics are measured on the validation split only")
    return ("the search was interrupted, and this is the best file that it had measured"
            f"{where}. To go on: {command}")


@contextmanager
def keep_best(publisher: Publisher, rank: Callable[[], Sequence[Trial]]) -> Iterator[None]:
    """Publish the best file so far if the block is interrupted.

    A second interrupt ends that, too.

    Args:
        publisher: Publishes it.
        rank: Returns the trials, the best first; none if there is nothing to publish.

    Raises:
        SearchInterrupted: The block was interrupted, and a file was published.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        settle_interrupt()
        ranked = rank()
        if not ranked:
            raise
        raise publisher.publish_interrupted(ranked[0]) from interrupt
