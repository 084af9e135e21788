"""The table of the jobs at real size, from the stored rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from benchmarks.common.result_rows import Rows
from benchmarks.real_size.job import Job


def render(rows: Rows, jobs: Mapping[str, Job]) -> str:
    """The table in Markdown, with what the figures are compared with."""
    lines = [_line(_TITLES), _line(["---"] * len(_TITLES))]
    notes = []
    for name in jobs:
        found = {recipe: rows.get(f"{name} {recipe}") for recipe in ("int8", "pruned")}
        lines += [_line(_cells(name, recipe, row)) for recipe, row in found.items() if row]
        row = found["int8"] or found["pruned"]
        if row:
            notes += list(_notes(name, found))
    versions = sorted({f"{name} {version}" for row in rows.values()
                       for name, version in row["versions"].items()})
    return "\n".join([_HEAD, *lines, "", *notes, "", f"Made with {', '.join(versions)}.", ""])


def _cells(name: str, recipe: str, row: Mapping[str, Any]) -> list[str]:
    before, after = row["original"], row["compressed"]
    metric = row["metric"]
    return [
        _module_link(name), metric, str(row["test_samples"]), recipe,
        _value(before[metric]), _value(after[metric]),
        f"{before['size_bytes']['value'] / 1000:.1f} kB",
        f"{after['size_bytes']['value'] / 1000:.1f} kB, {row['times_smaller']:.1f}x smaller",
        f"{before['macs']['value'] / after['macs']['value']:.2f}x",
        f"{100 * min(output['agreement'] for output in row['parity']['outputs']):.2f} %"]


def _notes(name: str, found: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    """What simple methods reach, the other metrics, and the figures of the files."""
    rows = {recipe: row for recipe, row in found.items() if row}
    first = next(iter(rows.values()))
    metric = first["metric"]
    parts = [f"{method} has {_value({**first['original'][metric], 'value': value})}"
             for method, value in first["simple"].items()]
    others = [other for other, entry in first["original"].items()
              if entry["kind"] == "measured" and entry.get("split") == "test"
              and other not in (metric, "size_bytes") and "latency" not in other]
    for other in others:
        values = [_value(first["original"][other]),
                  *(f"{_value(row['compressed'][other])} ({recipe})"
                    for recipe, row in rows.items())]
        parts.append(f"{other} {', '.join(values)}")
    for figure in first["original_file"]:
        values = [f"{first['original_file'][figure]:.4g}",
                  *(f"{row['compressed_file'][figure]:.4g} ({recipe})"
                    for recipe, row in rows.items())]
        parts.append(f"{figure} {', '.join(values)}")
    if parts:
        yield f"- {name.replace('_', ' ')}: {'; '.join(parts)}."


def _module_link(name: str) -> str:
    module = {"diabetes": "tabular", "tumours": "tabular"}.get(name, name)
    return f"[{name.replace('_', ' ')}](../benchmarks/real_size/{module}.py)"


def _value(entry: Mapping[str, Any]) -> str:
    if entry["unit"] == "fraction":
        return f"{100 * entry['value']:.2f} %"
    return f"{entry['value']:.2f} {entry['unit']}".strip()


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


_TITLES: Final = ["job", "metric", "test samples", "recipe", "float file", "compressed file",
                  "float size", "size", "fewer MACs", "decisions agree"]
_HEAD: Final = """# Jobs at real size

Made by a script, not by hand: `python -m benchmarks.real_size.run --data DIR --out DIR` writes
`benchmarks/results/real_size.json` and this table. Every figure is of the exported file on ONNX
Runtime, on the test split, on which nothing was selected. "int8" is calibrated after training,
"pruned" is pruned, recovered with the original as teacher, and calibrated. "Decisions agree": the
file and the program in PyTorch, by the goal. The module of each job says what the data and the
split are, and what was derived.

"""
