"""What the machine says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.errors import EdgewrightError
from edgewright.measure import _machine, machine, peak_rss_bytes

X86 = "processor\t: 0\nmodel name\t: Some  CPU @ 2 GHz\n\nprocessor\t: 1\nmodel name\t: Other\n"


def test_machine_is_one_line_with_the_core_count() -> None:
    name, _, cores = machine().rpartition(", ")
    assert name
    assert "\n" not in name
    assert cores == f"{os.cpu_count()} cores"


@pytest.mark.parametrize(("board", "cpuinfo", "start"), [
    ("", X86, "Some CPU @ 2 GHz, "), ("Raspberry Pi 5\0", X86, "Raspberry Pi 5, ")])
def test_machine_names_the_board_or_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  board: str, cpuinfo: Any, start: str) -> None:
    for name, text in (("_BOARD", board), ("_PROCESSOR", cpuinfo)):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(_machine, name, tmp_path / name)
    assert machine().startswith(start)


def test_machine_without_proc_falls_back_to_the_platform(tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BOARD", "_PROCESSOR"):
        monkeypatch.setattr(_machine, name, tmp_path / "none")
    assert len(machine().rpartition(", ")[0]) > 0


_BEFORE_AND_AFTER = """
from edgewright.measure import peak_rss_bytes
print(peak_rss_bytes())
block = b"x" * 100_000_000
print(peak_rss_bytes())
del block
print(peak_rss_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the parent's peak may be inherited")
def test_peak_memory_is_this_processs_own_and_stays_at_what_was_touched() -> None:
    of_the_parent = np.ones(200_000_000, dtype=np.uint8)
    done = subprocess.run([sys.executable, "-c", _BEFORE_AND_AFTER], capture_output=True, text=True,
                          check=True)
    before, with_block, after = map(int, done.stdout.split())
    assert before < of_the_parent.nbytes
    assert with_block >= before + 95_000_000
    assert after >= with_block - 5_000_000   # the kernel counts pages in batches


def test_peak_memory_without_proc_is_asked_of_the_system(tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine, "_STATUS", tmp_path / "none")
    if sys.platform == "win32":
        with pytest.raises(EdgewrightError, match="cannot be read on Windows"):
            peak_rss_bytes()
    else:
        assert peak_rss_bytes() > 1_000_000
