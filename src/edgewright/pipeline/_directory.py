"""The run directory, which stores every stage so that a run can be resumed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, final

from pydantic import ValidationError

from edgewright.core import StageRecord, Value, write_atomically
from edgewright.errors import StorageError
from edgewright.program import Program

_IDENTITY: Final = "run.json"
Decision = TypeVar("Decision", bound=Value)

_RESULTS: Final = "results"  # its key for the checksums of the run's results


@final
class _StoredStage(Value):
    """A finished stage's record, with the checksums that identify its program.

    Attributes:
        record: The stage's record.
        program: Checksum of the stage's program file.
        before: Checksum of the input program's file; of the run, for the first stage.
    """

    record: StageRecord
    program: str
    before: str


@final
class RunDirectory:
    """One run's files.

    ``run.json`` identifies the run and holds checksums of both bundles; ``stages/`` holds a program
    and a record for each finished stage, and decisions that depend on measurements;
    ``checkpoints/`` the state of a training in progress. The results are ``model.edge``,
    ``baseline.edge``, ``manifest.json``, ``recipe.yaml``, ``report.html`` and, of a search,
    ``search.json``. A file that was changed since counts as missing.
    """

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        self.path = path
        self.identity = digest(json.dumps(identity, sort_keys=True).encode())
        self.bundle = path / "model.edge"
        self.baseline = path / "baseline.edge"
        self.trial = path / "trial.edge"
        self.manifest = path / "manifest.json"
        self.recipe = path / "recipe.yaml"
        self.report = path / "report.html"
        self.search = path / "search.json"
        self._stages = path / "stages"
        self._checkpoints = path / "checkpoints"

    @classmethod
    def open(cls, path: Path, identity: dict[str, str]) -> RunDirectory:
        """Open a directory for a run, new or to be resumed.

        Args:
            path: The directory; created if missing.
            identity: Everything that determines the run; runs with equal identities give the same
                bundle.

        Raises:
            StorageError: It holds something else, or cannot be written; it is not changed.
        """
        check_available(path, identity)
        directory = cls(path, identity)
        is_new = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            results = {} if is_new else directory._results()
            directory._write({**identity, _RESULTS: results})
            directory._stages.mkdir(exist_ok=True)
            directory._checkpoints.mkdir(exist_ok=True)
        except (OSError, StorageError) as error:
            if is_new:
                shutil.rmtree(path, ignore_errors=True)
            raise StorageError(f"cannot create the run directory {path}: {error}; "
                               "free some space or choose another --out") from error
        return directory

    def seal(self, *files: Path, program: str = "") -> None:
        """Record the checksums of files as this run's results.

        Args:
            files: The files.
            program: Checksum of the last stage's program, if they were made from it.
        """
        results = self._results()
        results |= {file.name: f"{checksum(file)} {program}".rstrip() for file in files}
        self._write({**self._read(), _RESULTS: results})

    def is_sealed(self, file: Path, program: str = "") -> bool:
        """Whether a file exists, is unchanged, and was made from this program."""
        if not file.is_file():
            return False
        return self._results().get(file.name) == f"{checksum(file)} {program}".rstrip()

    def checkpoint(self, stage: str) -> Path:
        """The checkpoint file of a stage's training."""
        return self._checkpoints / f"{stage}.ckpt"

    def find(self, stage: str, before: str) -> tuple[Program, StageRecord] | str:
        """A finished stage's program and record, or the reason why it has to run (empty if new).

        Args:
            stage: The stage's key.
            before: Checksum of its input program; see `checksum_of`.
        """
        program, record = self._files(stage)
        if not record.is_file():
            return ""
        try:
            kept = _StoredStage.model_validate_json(record.read_bytes())
        except (OSError, ValidationError):
            return f"{record} is damaged or has another version"
        if not program.is_file():
            return f"{program} is missing"
        if checksum(program) != kept.program:
            return f"{program} was changed after this run wrote it"
        if kept.before != before:
            return f"{program} was not made from the current result of the previous stage"
        return Program.load(program), kept.record

    def keep(self, stage: str, program: Program) -> Program:
        """Store a stage's program, and load it as a later run would."""
        path, record = self._files(stage)
        record.unlink(missing_ok=True)
        program.save(path)
        return Program.load(path)

    def record(self, stage: str, record: StageRecord, before: str) -> None:
        """Mark a stage as finished, with its record and the checksum of its input program."""
        path, file = self._files(stage)
        kept = _StoredStage(record=record, program=checksum(path), before=before)
        write_atomically(file, kept.model_dump_json(indent=1).encode())
        self.checkpoint(record.name).unlink(missing_ok=True)

    def checksum_of(self, stage: str) -> str:
        """Checksum of a stage's program file."""
        return checksum(self._files(stage)[0])

    def decide(self, name: str, before: str, kind: type[Decision],
               make: Callable[[], Decision]) -> Decision:
        """A decision that depends on measurements: the stored one, or a new one, which is stored.

        Args:
            name: Name of its file.
            before: Checksum of the program that it is about.
            kind: Its class.
            make: Makes a new one.
        """
        path = self._stages / f"{name}.json"
        try:
            found = json.loads(path.read_bytes())
            if found["before"] == before:
                return kind.model_validate(found["decision"])
        except (OSError, ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
        made = make()
        content = {"before": before, "decision": made.model_dump(mode="json")}
        write_atomically(path, json.dumps(content, indent=1).encode())
        return made

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints, which only an unfinished run needs."""
        shutil.rmtree(self._checkpoints, ignore_errors=True)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads((self.path / _IDENTITY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _results(self) -> dict[str, str]:
        found = self._read().get(_RESULTS)
        return found if isinstance(found, dict) else {}

    def _write(self, content: dict[str, Any]) -> None:
        write_atomically(self.path / _IDENTITY,
                         json.dumps(content, indent=1, sort_keys=True).encode())

    def _files(self, stage: str) -> tuple[Path, Path]:
        return self._stages / f"{stage}.pt2", self._stages / f"{stage}.json"


def check_available(path: Path, identity: dict[str, str]) -> None:
    """Raise unless a directory is missing, empty, or holds this run.

    Raises:
        StorageError: It holds another run, or something that is not a run.
    """
    if path.exists() and not path.is_dir():
        raise StorageError(f"{path} is a file; --out names a directory")
    try:
        if not path.is_dir() or not any(path.iterdir()):
            return
        found = json.loads((path / _IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} is not empty and does not hold a run of Edgewright; choose "
                           "another --out or empty it") from error
    stated = found if isinstance(found, dict) else {}
    changed = [key for key in identity if stated.get(key) != identity[key]]
    if changed:
        raise StorageError(f"{path} holds another run (it differs in: {', '.join(changed)}); "
                           "choose another --out, or repeat that run's command to resume it")


def checksum(file: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def digest(*parts: bytes) -> str:
    """A short checksum for an identity."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()[:16]
