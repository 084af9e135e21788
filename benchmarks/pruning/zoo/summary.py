"""The zoo's table: how many of the models, how fast, and every failure by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.pruning.zoo.rows import Ours, Peer

TOLERANCE: Final = 1e-4  # relative, in float32


@dataclass(frozen=True)
class Pair:
    """Both sides of one model.

    Attributes:
        ours: Edgewright's side.
        peer: Torch-Pruning's, empty where it was left out.
    """

    ours: Ours
    peer: Peer

    @property
    def failure(self) -> str | None:
        """What kept our side from an exported, proved, smaller program."""
        if self.ours.failure:
            return self.ours.failure
        for name, error in (("masked = sliced", self.ours.masked_error),
                            ("ONNX Runtime's outputs", self.ours.onnx_error)):
            if error is not None and not error <= TOLERANCE:
                return f"{name}: relative error {error:.1e}"
        return None

    @property
    def is_pruned(self) -> bool:
        """Whether our side removed channels and proved it."""
        error = self.ours.masked_error
        return bool(self.ours.channels_removed) and error is not None and error <= TOLERANCE


def summarize(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print counts and medians of both sides, then the failures."""
    pairs = {name: Pair(Ours(**row["ours"]), Peer(**row.get("peer", {})))
             for name, row in rows.items()}
    console = Console(width=120)
    console.print(_table(list(pairs.values())))
    for name, pair in pairs.items():
        if pair.failure:
            console.print(f"[bold]{name}[/] {pair.failure}", highlight=False)
        if pair.peer.failure:
            console.print(f"{name}, Torch-Pruning: {pair.peer.failure}", highlight=False)


def _table(pairs: list[Pair]) -> Table:
    ours, peers = [pair.ours for pair in pairs], [pair.peer for pair in pairs]
    both = [pair for pair in pairs if pair.is_pruned and pair.peer.seconds is not None]
    table = Table("", "Edgewright", "Torch-Pruning", title=f"{len(pairs)} models")
    table.add_row("captured", _share(row.capture_seconds is not None for row in ours), "")
    table.add_row("pruned and proved", _share(pair.is_pruned for pair in pairs),
                  _share(row.parameters_left is not None for row in peers))
    table.add_row("ONNX Runtime agrees", _share(row.onnx_error is not None
                                                and row.onnx_error <= TOLERANCE
                                                for row in ours), "")
    table.add_row("parameters left", _median(_left(row) for row in ours),
                  _median(_left(row) for row in peers))
    table.add_row("peak memory, MB", _median(row.peak_memory_mb for row in ours),
                  _median(row.peak_memory_mb for row in peers))
    table.add_section()
    table.add_row(f"seconds, where both prune ({len(both)})",
                  _median(_seconds(pair.ours) for pair in both),
                  _median(pair.peer.seconds for pair in both))
    table.add_row("of them after the capture", _median(pair.ours.prune_seconds for pair in both),
                  "")
    table.add_row("time relative to the peer's, per model",
                  _median(_seconds(pair.ours) / (pair.peer.seconds or 1) for pair in both), "1")
    return table


def _seconds(row: Ours) -> float:
    return (row.capture_seconds or 0) + (row.prune_seconds or 0)


def _left(row: Ours | Peer) -> float | None:
    if row.parameters is None or row.parameters_left is None:
        return None
    return row.parameters_left / row.parameters


def _share(flags: Iterable[bool]) -> str:
    found = list(flags)
    return f"{sum(found)} / {len(found)} ({100 * sum(found) / max(len(found), 1):.1f} %)"


def _median(values: Iterable[float | None]) -> str:
    found = [value for value in values if value is not None]
    return f"{median(found):.3g} (median of {len(found)})" if found else "-"
