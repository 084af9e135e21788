"""``edgewright doctor``."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.table import Table

from edgewright._extras import EXTRAS

_INTEGER_FLAGS: Final = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def doctor() -> None:
    """Show what this installation and machine support, and what is missing.

    Example:
      edgewright doctor
    """
    from edgewright.boards import COMPILER, EMULATOR, PACKAGES, is_available
    from edgewright.integers.c import find_compiler
    from edgewright.measure import machine

    console = Console()
    facts = Table(show_header=False, title="machine", title_justify="left")
    facts.add_row("processor", machine())
    facts.add_row("python", f"{platform.python_version()} on {platform.platform()}")
    facts.add_row("integer kernels", _integer_kernels())
    facts.add_row("accelerator", _accelerator())
    facts.add_row("runtime", _runtime())
    facts.add_row("free disk here", f"{shutil.disk_usage('.').free / 1e9:.1f} GB")
    console.print(facts)
    packages = Table("extra", "package", "version", title="packages", title_justify="left")
    missing = []
    for extra, names in EXTRAS.items():
        found = {name: _version(name) for name in names}
        for name, installed in found.items():
            packages.add_row(extra or "(always)", name, installed or "missing")
        if None in found.values():
            missing.append(extra)
    console.print(packages)
    programs = Table("program", "needed for", "found", title="programs", title_justify="left")
    compiler = find_compiler()
    programs.add_row("cc", "export --to c", "missing" if compiler is None else " ".join(compiler))
    for name in (COMPILER, EMULATOR):
        programs.add_row(name, "export --board", shutil.which(name) or "missing")
    console.print(programs)
    for extra in filter(None, missing):
        typer.echo(f"to add {extra}: pip install 'edgewright[{extra}]'")
    if not is_available():
        typer.echo(f"to add boards: apt-get install {PACKAGES}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _integer_kernels() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown on this system"
    flags = set(text.split())
    found = [flag for flag in _INTEGER_FLAGS if flag in flags]
    return ", ".join(found) or "none: int8 may be slower than float here"


def _accelerator() -> str:
    try:
        import torch
    except ImportError as error:
        return f"unknown without torch ({error})"
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "none; training runs on the CPU"


def _runtime() -> str:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        return f"cannot be imported: {error}"
    providers = ", ".join(onnxruntime.get_available_providers())
    return f"onnxruntime {onnxruntime.__version__}: {providers}"
