"""Files appear whole or not at all."""

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
    """Write a file through a draft beside it, so that the old one stays until the new is whole.

    Raises:
        StorageError: The folder is missing or cannot be written, or the disk is full; nothing is
            left behind.
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
                  if error.errno in _FULL else "name a file in a folder that can be written")
        raise StorageError(f"cannot write {path}: {error.strerror or error}; {advice}") from error
    finally:
        with suppress(OSError):
            draft.unlink()
