"""Name of the machine, and peak memory of this process."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Final

from edgewright.errors import EdgewrightError

_BOARD: Final = Path("/proc/device-tree/model")
_PROCESSOR: Final = Path("/proc/cpuinfo")
_STATUS: Final = Path("/proc/self/status")


def machine() -> str:
    """Processor (or board) and core count, as the manifest records them.

    Example:
        >>> machine().endswith(f"{os.cpu_count()} cores")
        True
    """
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    board = _read(_BOARD).rstrip("\0").strip()
    named = re.search(r"^(?:model name|Hardware|cpu model)\s*:\s*(.+)$", _read(_PROCESSOR), re.M)
    model = " ".join(named[1].split()) if named else ""
    return board or model or platform.processor() or platform.machine() or "unknown processor"


def peak_rss_bytes() -> int:
    """Peak resident memory of this process so far, in bytes.

    Raises:
        EdgewrightError: The platform does not report it.

    Example:
        >>> peak_rss_bytes() > 1_000_000
        True
    """
    # Not getrusage on Linux: there a child process starts with its parent's peak.
    status = re.search(r"^VmHWM:\s*(\d+) kB$", _read(_STATUS), re.M)
    if status:
        return int(status[1]) * 1024
    if sys.platform == "win32":
        raise EdgewrightError("peak memory cannot be read on Windows; measure it on the device")
    import resource  # noqa: PLC0415

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
