"""Rows in a JSON file: those that are there, and what is needed to take one again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.common.commands import running_command
from edgewright.core import Figures, Manifest, write_atomically
from edgewright.measure import machine

Rows = dict[str, dict[str, Any]]


def stored(path: Path) -> Rows:
    """The rows of a file; none where there is no file yet."""
    rows: Rows = json.loads(path.read_text()) if path.is_file() else {}
    return rows


def keep(path: Path, key: str, row: dict[str, Any]) -> None:
    """Add a row to those of a file, or put it in the place of another, and print it."""
    rows = {**stored(path), key: row}
    write_atomically(path, json.dumps(rows, indent=1).encode() + b"\n")
    print(key, json.dumps(row), flush=True)


def provenance(packages: Iterable[str], **settings: int) -> dict[str, Any]:
    """The command that runs, without the folders of its paths, its settings, machine, versions."""
    return {"command": running_command(), **settings, "machine": machine(),
            "versions": versions(packages)}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe_figures(figures: Figures) -> dict[str, dict[str, Any]]:
    """Every figure by name, with its provenance."""
    return {m.name: m.model_dump(exclude={"name"}, exclude_none=True)
            for m in figures.measurements}


def describe_run(manifest: Manifest) -> dict[str, Any]:
    """Figures of the original's and the result's file, their ratio of sizes, and parity."""
    report = manifest.report
    return {
        "original": describe_figures(report.original),
        "compressed": describe_figures(report.compressed),
        "times_smaller": round(report.original["size_bytes"] / report.compressed["size_bytes"], 3),
        "stage_seconds": {stage.name: round(stage.seconds, 1) for stage in report.stages},
        "parity": report.parity.model_dump() if report.parity else None,
    }
