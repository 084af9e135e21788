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
from edgewright.distill import CompiledTeacher
from edgewright.errors import UsageError
from edgewright.pipeline import RunLog, RunSettings, run_identity
from edgewright.program import Program
from edgewright.search._builder import build_file
from edgewright.search._built import Built, Failure, attempt
from edgewright.search._candidate import Candidate
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
        teacher: The teacher, as a saved program.
        task: The data.
        budget: The limits.
        seed: Seed of all random numbers.
        name: Name of the model in records.
        config: The settings of the search.
        judge: What candidates are compared by; None for the metric on the validation split.
        baseline: The original's bundle, which exits are compared with.
    """

    program: bytes
    teacher: bytes
    task: Task
    budget: Budget
    seed: int
    name: str
    config: Search
    judge: AgreementJudge | None
    baseline: bytes

    @classmethod
    def of(cls, settings: RunSettings, config: Search, judge: AgreementJudge | None = None,
           baseline: bytes = b"") -> WorkerInputs:
        """Gather them in the process that searches.

        Raises:
            UsageError: The teacher is no program, so it cannot be sent.
        """
        teacher = settings.teacher
        if not isinstance(teacher, CompiledTeacher | None):
            raise UsageError(f"the teacher {teacher.name} cannot be sent to other machines; give a "
                             "program or a module as teacher, or omit ray")
        original = _save(settings.original)
        return cls(original, original if teacher is None else _save(teacher.program),
                   settings.task, settings.budget, settings.seed, settings.name, config, judge,
                   baseline)

    def settings(self) -> RunSettings:
        """The settings of a run on the worker, which prints nothing."""
        original = _load(self.program)
        teacher = original if self.teacher == self.program else _load(self.teacher)
        return RunSettings(original, self.task, self.budget, self.seed, self.name,
                           RunLog(quiet=True), CompiledTeacher(teacher))


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
    settings = found.settings()
    return run_identity(settings.original, found.task, found.budget, found.config, found.seed,
                        settings.teacher_name)


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
        baseline = Path(root, "baseline.edge")
        baseline.write_bytes(found.baseline)
        built = attempt(partial(build_file, found.settings(), candidate, folder, found.judge,
                                baseline))
        return built if isinstance(built, Failure) else Delivery(built, read_files(folder))


def _save(program: Program) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "program.pt2")
        program.save(file)
        return file.read_bytes()


def _load(content: bytes) -> Program:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "program.pt2")
        file.write_bytes(content)
        return Program.load(file)


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
