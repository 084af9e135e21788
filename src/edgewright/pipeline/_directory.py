"""The run directory: every stage's program and record, so that a run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Final, final

from pydantic import ValidationError

from edgewright.core import StageRecord, write_atomically
from edgewright.errors import StorageError
from edgewright.program import Program

_IDENTITY: Final = "run.json"


@final
class RunDirectory:
    """One run's files.

    ``run.json`` says which run it is, ``stages/`` holds a program and a record for each finished
    stage, ``checkpoints/`` the state of a training that is under way. Results lie beside them:
    ``model.edge``, ``baseline.edge``, ``manifest.json``, ``recipe.yaml``, ``report.html``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bundle = path / "model.edge"
        self.baseline = path / "baseline.edge"
        self.manifest = path / "manifest.json"
        self.recipe = path / "recipe.yaml"
        self.report = path / "report.html"
        self._stages = path / "stages"
        self._checkpoints = path / "checkpoints"

    @classmethod
    def open(cls, path: Path, identity: dict[str, str]) -> RunDirectory:
        """Open a directory for a run, new or to be resumed.

        Args:
            path: Created where it is missing.
            identity: Everything that makes this run the one it is; two runs with equal identities
                give the same bundle.

        Raises:
            StorageError: It holds something else, or cannot be written; it is left as it was.
        """
        check_free(path, identity)
        directory = cls(path)
        is_new = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / _IDENTITY,
                             json.dumps(identity, indent=1, sort_keys=True).encode())
            directory._stages.mkdir(exist_ok=True)
            directory._checkpoints.mkdir(exist_ok=True)
        except (OSError, StorageError) as error:
            if is_new:
                shutil.rmtree(path, ignore_errors=True)
            raise StorageError(f"cannot create the run directory {path}: {error}; "
                               "free some space or choose another --out") from error
        return directory

    @property
    def is_complete(self) -> bool:
        """Whether the run's results are all there."""
        return all(file.is_file() for file in (self.bundle, self.manifest, self.report))

    def checkpoint(self, stage: str) -> Path:
        """Where a stage keeps the state of its training."""
        return self._checkpoints / f"{stage}.ckpt"

    def find(self, stage: str) -> tuple[Program, StageRecord] | None:
        """A finished stage's program and record, or None."""
        program, record = self._files(stage)
        if not (program.is_file() and record.is_file()):
            return None
        try:
            found = StageRecord.model_validate_json(record.read_bytes())
        except (OSError, ValidationError) as error:
            raise StorageError(f"{record} is damaged; remove it, and its stage runs again"
                               ) from error
        return Program.load(program), found

    def keep(self, stage: str, program: Program) -> Program:
        """Store a stage's program, and give it back as a later run would find it."""
        path, _ = self._files(stage)
        program.save(path)
        return Program.load(path)

    def record(self, stage: str, record: StageRecord) -> None:
        """Mark a stage as finished."""
        write_atomically(self._files(stage)[1], record.model_dump_json(indent=1).encode())
        self.checkpoint(stage.partition("-")[2]).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self._checkpoints, ignore_errors=True)

    def _files(self, stage: str) -> tuple[Path, Path]:
        return self._stages / f"{stage}.pt2", self._stages / f"{stage}.json"


def check_free(path: Path, identity: dict[str, str]) -> None:
    """See that a directory is missing, empty, or holds this very run.

    Raises:
        StorageError: It holds another run, or something that is no run.
    """
    if path.exists() and not path.is_dir():
        raise StorageError(f"{path} is a file; --out names a directory")
    try:
        if not path.is_dir() or not any(path.iterdir()):
            return
        found = json.loads((path / _IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} is not empty and holds no run of Edgewright; choose another "
                           "--out or empty it") from error
    stated = found if isinstance(found, dict) else {}
    changed = [key for key in identity if stated.get(key) != identity[key]]
    if changed:
        raise StorageError(f"{path} holds another run (it differs in: {', '.join(changed)}); "
                           "choose another --out, or repeat that run's command to resume it")


def digest(*parts: bytes) -> str:
    """A short checksum for an identity."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()[:16]
