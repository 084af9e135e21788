"""The page's footer: everything needed to reproduce or check the file."""

from __future__ import annotations

import json
from collections.abc import Iterable

from edgewright.core import (
    AudioPreprocessing,
    Manifest,
    ModelSpec,
    Segment,
    TensorSpec,
    format_count,
    format_size,
)
from edgewright.report._html import Markup, el
from edgewright.report._tables import row, table
from edgewright.report._text import format_figure


def provenance(manifest: Manifest) -> Markup:
    """Versions, machine, files, tensors and recipe."""
    model, report = manifest.model, manifest.report
    facts = (
        ("Machine", report.machine), ("Runtime", model.runtime),
        ("Seed", str(report.seed)), ("Manifest format", str(manifest.format_version)),
        *((f"Input {spec.name}", _tensor(spec)) for spec in model.inputs),
        *((f"Output {spec.name}", _tensor(spec)) for spec in model.outputs),
        *(_preprocessing(model)), *(_classes(model)),
    )
    return el("footer", el("h2", "Provenance"), _list(facts),
              *((el("h3", "Files"), _files(model.segments)) if model.segments else ()),
              *((el("h3", "Versions"), _list(report.versions.items()))
                if report.versions else ()),
              _details("Budget, as given", report.budget.model_dump(exclude_none=True)),
              _details("Recipe", report.recipe))


def _list(facts: Iterable[tuple[str, str]]) -> Markup:
    return el("dl", *(el("div", el("dt", name), el("dd", text)) for name, text in facts if text),
              class_="facts-list")


def _tensor(spec: TensorSpec) -> str:
    shape = " \u00d7 ".join("N" if size is None else str(size) for size in spec.shape)
    return f"{spec.dtype}, {shape}" if shape else f"{spec.dtype}, scalar"


def _preprocessing(model: ModelSpec) -> list[tuple[str, str]]:
    given = model.preprocessing
    if given is None:
        return []
    if isinstance(given, AudioPreprocessing):
        return [("Preprocessing", _describe_audio(given))]
    mean, std = (", ".join(f"{number:.4g}" for number in numbers)
                 for numbers in (given.mean, given.std))
    return [("Preprocessing", f"{given.channels} channel{'' if given.channels == 1 else 's'}, "
                              f"{given.height} \u00d7 {given.width} pixels, {given.resample}, "
                              f"scale {given.scale:.4g}, mean {mean}, std {std}")]


def _describe_audio(given: AudioPreprocessing) -> str:
    bands = f"{given.fmin:g} to {given.sample_rate / 2 if given.fmax is None else given.fmax:g} Hz"
    return (f"{given.length} samples at {given.sample_rate} Hz, {given.shape[2]} frames of "
            f"{given.frame_length} samples every {given.hop}, transform of {given.fft_size}, "
            f"{given.mels} mel bands (HTK) from {bands}, logarithm of at least {given.floor:.4g}, "
            f"mean {given.mean:.4g}, std {given.std:.4g}")


def _classes(model: ModelSpec) -> list[tuple[str, str]]:
    if not model.classes:
        return []
    shown = ", ".join(model.classes[:12])
    rest = len(model.classes) - 12
    return [("Classes", f"{len(model.classes)}: {shown}{f' and {rest} more' * (rest > 0)}")]


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
