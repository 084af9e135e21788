"""Writing a bundle: atomically, and with its own exact size in its manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from edgewright.bundle._archive import (
    MANIFEST,
    MAX_COMMENT_BYTES,
    Member,
    member_names,
    pack,
    seal,
    sha256,
)
from edgewright.bundle._external_data import refers_to_other_files
from edgewright.bundle._form import Form, choose_smallest_form
from edgewright.core import Manifest, Measurement, ModelSpec, Segment, write_atomically
from edgewright.errors import UsageError

_ATTEMPTS: Final = 64
_SEGMENT_NAME: Final = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)


def write_bundle(path: str | os.PathLike[str], manifest: Manifest, segments: Mapping[str, bytes],
                 *, finish: Callable[[Manifest], Manifest] | None = None) -> Manifest:
    """Write manifest and segments as one file, atomically; equal content gives equal bytes.

    Checksum and sizes of every segment are filled in, and so is the bundle's own size
    (``size_bytes`` in ``manifest.report.compressed``, measured). The integers of a segment's
    ``low_bit`` are stored packed if that is smaller; otherwise ``low_bit`` becomes empty.

    Args:
        path: The file to write; an existing one is replaced once the new one is complete.
        manifest: The bundle's manifest.
        segments: The bytes of each file in ``manifest.model.segments``, and no others.
        finish: Called with the manifest whenever its size figure changes, to set fields that
            depend on the size, such as breaches of the budget. Must be a pure function.

    Returns:
        The manifest as written, equal to the one that `read_bundle` returns.

    Raises:
        UsageError: Segments and manifest do not match, a segment does not match its ``low_bit`` or
            refers to tensors in another file, or the manifest cannot be stored.
        StorageError: The folder is missing or not writable, or the disk is full; nothing is left
            behind, and an existing bundle is untouched.

    Example:
        >>> import tempfile
        >>> from edgewright.bundle import read_bundle
        >>> from edgewright.core import Budget, Figures, RunReport, Segment, TensorSpec
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=4,
        ...                   energy_mj=0.1, ram_bytes=8)
        >>> manifest = Manifest(
        ...     model=ModelSpec(name="tiny", inputs=(spec,), outputs=(spec,), segments=(segment,)),
        ...     report=RunReport(data="none", recipe={}, seed=0, budget=Budget(), versions={},
        ...                      machine="any", original=Figures(), compressed=Figures(),
        ...                      simulated=Figures()))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "tiny.edge")
        ...     written = write_bundle(path, manifest, {"segments/0.onnx": b"model"})
        ...     (written.report.compressed["size_bytes"] == path.stat().st_size,
        ...      read_bundle(path).manifest == written)
        (True, True)
        >>> written.model.segments[0].size_bytes
        5
    """
    manifest, _ = _serialize(manifest)
    files = _order_files(manifest.model, segments)
    forms = [_choose_form(segment, files[segment.file]) for segment in manifest.model.segments]
    manifest = manifest.with_model(segments=_describe_segments(manifest.model, files, forms))
    members = {name: member
               for segment, form in zip(manifest.model.segments, forms, strict=True)
               for name, member in zip(member_names(segment), form.members, strict=True)}
    if len(members) != sum(len(form.members) for form in forms):
        raise UsageError(f"a segment has the name of another's packed integers: {[*files]}; "
                         "use a name that does not end in .packed")
    final, text, comment = _finalize(manifest, members, finish)
    write_atomically(Path(path), pack({MANIFEST: Member(text), **members}, comment))
    return final


def _order_files(model: ModelSpec, segments: Mapping[str, bytes]) -> dict[str, bytes]:
    names = [segment.file for segment in model.segments]
    if not names:
        raise UsageError("the manifest lists no segment; a bundle needs at least one")
    if len(set(names)) != len(names) or set(names) != set(segments):
        raise UsageError(f"the manifest lists the segments {names}, but {sorted(segments)} were "
                         "given; give each listed file once and no other")
    for name in names:
        if _SEGMENT_NAME.fullmatch(name) is None or name == MANIFEST:
            raise UsageError(f"{name!r} cannot name a segment; use a plain relative path such as "
                             "segments/0.onnx")
        if refers_to_other_files(segments[name]):
            raise UsageError(f"{name} refers to tensors in another file (external data), but a "
                             "bundle must be self-contained; save the model as one file first")
    return {name: bytes(segments[name]) for name in names}


def _choose_form(segment: Segment, data: bytes) -> Form:
    try:
        return choose_smallest_form(data, segment.low_bit)
    except ValueError as error:
        raise UsageError(f"{segment.file} cannot be packed: {error}; make low_bit with "
                         "describe_low_bits() from this file") from error


def _describe_segments(model: ModelSpec, files: Mapping[str, bytes],
                       forms: Sequence[Form]) -> tuple[Segment, ...]:
    """The segments with their checksums and sizes."""
    return tuple(
        segment.replace(sha256=sha256(files[segment.file]), size_bytes=len(files[segment.file]),
                        stored_bytes=form.stored_bytes, low_bit=form.low_bit)
        for segment, form in zip(model.segments, forms, strict=True))


def _finalize(manifest: Manifest, members: Mapping[str, Member],
              finish: Callable[[Manifest], Manifest] | None) -> tuple[Manifest, bytes, bytes]:
    """Find a size that the file has when its manifest states it; the comment is the padding."""
    rest_bytes = len(pack(members)) - len(pack({}))
    size_bytes = 0
    for attempt in range(_ATTEMPTS):
        candidate = _with_size(manifest, size_bytes)
        final, text = _serialize(finish(candidate) if finish else candidate)
        comment = seal(text)
        needed_bytes = rest_bytes + len(pack({MANIFEST: Member(text)}, comment))
        padding_bytes = size_bytes - needed_bytes
        if 0 <= padding_bytes <= MAX_COMMENT_BYTES - len(comment):
            return final, text, comment + b" " * padding_bytes
        size_bytes = needed_bytes + attempt
    raise UsageError("the bundle's size does not converge: finish() keeps changing the "
                     "manifest's length; make it depend on the manifest alone")


def _with_size(manifest: Manifest, size_bytes: int) -> Manifest:
    size = Measurement(name="size_bytes", value=size_bytes, kind="measured")
    return manifest.with_report(compressed=manifest.report.compressed.with_(size))


def _serialize(manifest: Manifest) -> tuple[Manifest, bytes]:
    text = manifest.model_dump_json(exclude_none=True).encode()
    try:
        return Manifest.model_validate_json(text), text
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"the manifest cannot be stored: {where}: {first['msg']} once it "
                         "is written; set that field to a finite value of its type") from error
