"""The foot of the page: everything needed to make, or to doubt, the file again."""

from __future__ import annotations

import json
from collections.abc import Iterable

from edgewright.core import Manifest, Segment, TensorSpec, format_count, format_size
from edgewright.report._html import Markup, el
from edgewright.report._tables import row, table
from edgewright.report._text import format_figure


def provenance(manifest: Manifest) -> Markup:
    """Write versions, machine, files, tensors and recipe."""
    facts = (
        ("Machine", manifest.machine), ("Runtime", manifest.runtime),
        ("Seed", str(manifest.seed)), ("Manifest format", str(manifest.format_version)),
        *((f"Input {spec.name}", _tensor(spec)) for spec in manifest.inputs),
        *((f"Output {spec.name}", _tensor(spec)) for spec in manifest.outputs),
        *(_preprocessing(manifest)), *(_classes(manifest)),
    )
    return el("footer", el("h2", "Provenance"), _list(facts),
              *((el("h3", "Files"), _files(manifest.segments)) if manifest.segments else ()),
              *((el("h3", "Versions"), _list(manifest.versions.items()))
                if manifest.versions else ()),
              _details("Budget, as given", manifest.budget.model_dump(exclude_none=True)),
              _details("Recipe", manifest.recipe))


def _list(facts: Iterable[tuple[str, str]]) -> Markup:
    return el("dl", *(el("div", el("dt", name), el("dd", words)) for name, words in facts if words),
              class_="facts-list")


def _tensor(spec: TensorSpec) -> str:
    shape = " \u00d7 ".join("N" if size is None else str(size) for size in spec.shape)
    return f"{spec.dtype}, {shape}" if shape else f"{spec.dtype}, scalar"


def _preprocessing(manifest: Manifest) -> list[tuple[str, str]]:
    given = manifest.preprocessing
    if given is None:
        return []
    mean, std = (", ".join(f"{number:.4g}" for number in numbers)
                 for numbers in (given.mean, given.std))
    return [("Preprocessing", f"{given.channels} channel{'' if given.channels == 1 else 's'}, "
                              f"{given.height} \u00d7 {given.width} pixels, {given.resample}, "
                              f"scale {given.scale:.4g}, mean {mean}, std {std}")]


def _classes(manifest: Manifest) -> list[tuple[str, str]]:
    if not manifest.classes:
        return []
    shown = ", ".join(manifest.classes[:12])
    rest = len(manifest.classes) - 12
    return [("Classes", f"{len(manifest.classes)}: {shown}{f' and {rest} more' * (rest > 0)}")]


def _files(segments: tuple[Segment, ...]) -> Markup:
    rows = [row(el("code", segment.file), format_size(segment.stored_bytes),
                format_size(segment.size_bytes), format_count(segment.macs),
                format_figure("energy_mj", segment.energy_mj), format_size(segment.ram_bytes),
                el("td", el("code", segment.sha256, class_="hash"))) for segment in segments]
    return table(("File", "Stored", "Unpacked", "MACs", "Energy, modelled", "RAM, modelled",
                  "SHA-256"), rows, "files")


def _details(summary: str, content: dict[str, object]) -> Markup:
    if not content:
        return Markup("")
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    return el("details", el("summary", summary), el("pre", el("code", text)))
