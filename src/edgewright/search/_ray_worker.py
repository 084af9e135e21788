"""What runs on a worker of a Ray cluster, and what travels there and back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import torch

from edgewright.core import Budget, write_atomically
from edgewright.pipeline import RunLog, RunSettings, run_identity
from edgewright.program import Program
from edgewright.search._builder import build_file
from edgewright.search._candidate import Built, Candidate, Failure, attempt
from edgewright.search._config import Search
from edgewright.search._judge import AgreementJudge
from edgewright.task import Task

Files = Mapping[str, bytes]  # contents of a directory, by path below it


@final
@dataclass(frozen=True)
class WorkerInputs:
    """What all candidates of a search are built with.

    Attributes:
        program: The original, as a saved program.
        task: The data.
        budget: The limits.
        seed: Seed of all random numbers.
        name: Name of the model in records.
        config: The settings of the search.
        judge: What candidates are compared by; None for the metric on the validation split.
    """

    program: bytes
    task: Task
    budget: Budget
    seed: int
    name: str
    config: Search
    judge: AgreementJudge | None

    @classmethod
    def of(cls, settings: RunSettings, config: Search,
           judge: AgreementJudge | None = None) -> WorkerInputs:
        """Gather them in the process that searches."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "original.pt2")
            settings.original.save(file)
            program = file.read_bytes()
        return cls(program, settings.task, settings.budget, settings.seed, settings.name, config,
                   judge)

    def settings(self) -> RunSettings:
        """The settings of a run on the worker, which prints nothing."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "original.pt2")
            file.write_bytes(self.program)
            original = Program.load(file)
        return RunSettings(original, self.task, self.budget, self.seed, self.name,
                           RunLog(quiet=True))


@final
@dataclass(frozen=True)
class Delivery:
    """A candidate that a worker has built.

    Attributes:
        built: What was measured there.
        files: The files of its directory, so that no disk needs to be shared.
    """

    built: Built
    files: Files


def identify(inputs: bytes) -> dict[str, str]:
    """The identity of the search as a worker finds it; raises what keeps it from being read."""
    found = _unpickle(inputs)
    return run_identity(found.settings().original, found.task, found.budget, found.config,
                        found.seed)


def build_on_worker(inputs: bytes, candidate: Candidate, files: Files,
                    threads: int) -> Delivery | Failure:
    """Build a candidate in a temporary directory.

    Args:
        inputs: `WorkerInputs`, pickled.
        candidate: The candidate.
        files: Files of an interrupted build; finished stages are reused.
        threads: Threads of torch.
    """
    torch.set_num_threads(threads)
    found = _unpickle(inputs)
    with tempfile.TemporaryDirectory(prefix="edgewright-") as root:
        folder = candidate.folder(Path(root))
        write_files(folder, files)
        built = attempt(partial(build_file, found.settings(), candidate, folder, found.judge))
        return built if isinstance(built, Failure) else Delivery(built, read_files(folder))


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a directory and of those below it; none if it does not exist."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def write_files(folder: Path, files: Files) -> None:
    """Write files into a directory, which is created if there are any."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)


def _unpickle(inputs: bytes) -> WorkerInputs:
    from ray import cloudpickle  # noqa: PLC0415 - an extra

    found: WorkerInputs = cloudpickle.loads(inputs)
    return found
