"""A file is whole, or it is the old one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewright.core import write_atomically
from edgewright.errors import StorageError


@pytest.mark.parametrize("old", [None, b"old and longer"])
def test_a_file_is_written_and_nothing_else(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*gone/a\.bin: No such file or "
                                           r"directory; choose a file in a writable folder"):
        write_atomically(tmp_path / "gone" / "a.bin", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*a\.bin: Is a directory"):
        write_atomically(tmp_path / "a.bin", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_the_old_file_stays_when_a_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                              step: str) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync" if step == "fsync" else "pathlib.Path.replace", fail)
    with pytest.raises(StorageError, match="No space left on device; free 3 bytes there or write "
                                           "to another disk"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource, sys
from pathlib import Path
from edgewright.core import write_atomically
from edgewright.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]), bytes(5000))
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_disk_that_takes_no_more_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True,
                          text=True, check=True)
    assert done.stdout == (f"cannot write {path}: File too large; free 5000 bytes there or write "
                           "to another disk\n")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
