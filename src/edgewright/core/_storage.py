"""Atomic writing of files."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from edgewright.errors import StorageError

_FULL: Final = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG")
                         if hasattr(errno, name))


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file atomically: to a temporary file in the same folder, which then replaces it.

    Raises:
        StorageError: The folder is missing or not writable, or the disk is full; no temporary file
            is left behind.
    """
    draft = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        advice = (f"free {len(data)} bytes there or write to another disk"
                  if error.errno in _FULL else "choose a file in a writable folder")
        raise StorageError(f"cannot write {path}: {error.strerror or error}; {advice}") from error
    finally:
        with suppress(OSError):
            draft.unlink()
