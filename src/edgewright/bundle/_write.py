"""Writing a bundle: the size it states is the size it has, and it appears whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from edgewright.bundle._archive import MANIFEST, MAX_COMMENT_BYTES, pack, seal, sha256
from edgewright.core import Manifest, Measurement, write_atomically
from edgewright.errors import UsageError

_ATTEMPTS: Final = 64
_SEGMENT_NAME: Final = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)


def write_bundle(path: str | os.PathLike[str], manifest: Manifest, segments: Mapping[str, bytes],
                 *, finish: Callable[[Manifest], Manifest] | None = None) -> Manifest:
    """Write manifest and segments as one file, atomically; equal content gives equal bytes.

    Checksum and size of every segment, and the bundle's own size (``size_bytes`` in
    ``manifest.compressed``, in bytes, measured), are filled in.

    Args:
        path: The file to write; one that exists is replaced once the new one is complete.
        manifest: What the bundle says of itself.
        segments: The bytes of each file that ``manifest.segments`` names, and no other.
        finish: Called with the manifest whenever its size figure changes, for what depends on
            that size, as the breaches of a budget do. It must depend on its argument alone.

    Returns:
        The manifest as written, and as `read_bundle` gives it.

    Raises:
        UsageError: Segments and manifest do not match, or the manifest cannot be stored.
        StorageError: The folder is missing or cannot be written, or the disk is full; nothing is
            left behind and a bundle that was there is untouched.

    Example:
        >>> import tempfile
        >>> from edgewright.bundle import read_bundle
        >>> from edgewright.core import Budget, Figures, Segment, TensorSpec
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=4,
        ...                   energy_mj=0.1, ram_bytes=8)
        >>> manifest = Manifest(
        ...     model="tiny", data="none", recipe={}, seed=0, budget=Budget(), versions={},
        ...     machine="any", inputs=(spec,), outputs=(spec,), segments=(segment,),
        ...     original=Figures(), compressed=Figures(), simulated=Figures())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "tiny.edge")
        ...     written = write_bundle(path, manifest, {"segments/0.onnx": b"model"})
        ...     (written.compressed["size_bytes"] == path.stat().st_size,
        ...      read_bundle(path).manifest == written)
        (True, True)
        >>> written.segments[0].size_bytes
        5
    """
    files = _in_order(manifest, segments)
    final, text, comment = _settle(_checked_in(manifest, files), files, finish)
    write_atomically(Path(path), pack({MANIFEST: text, **files}, comment))
    return final


def _in_order(manifest: Manifest, segments: Mapping[str, bytes]) -> dict[str, bytes]:
    names = [segment.file for segment in manifest.segments]
    if not names:
        raise UsageError("the manifest lists no segment; a bundle needs at least one")
    if len(set(names)) != len(names) or set(names) != set(segments):
        raise UsageError(f"the manifest lists the segments {names}, but {sorted(segments)} were "
                         "given; give each listed file once and no other")
    for name in names:
        if _SEGMENT_NAME.fullmatch(name) is None or name == MANIFEST:
            raise UsageError(f"{name!r} cannot name a segment; use a plain relative path such as "
                             "segments/0.onnx")
    return {name: bytes(segments[name]) for name in names}


def _checked_in(manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    segments = tuple(
        segment.model_copy(update={"sha256": sha256(files[segment.file]),
                                   "size_bytes": len(files[segment.file])})
        for segment in manifest.segments)
    return manifest.model_copy(update={"segments": segments})


def _settle(manifest: Manifest, files: Mapping[str, bytes],
            finish: Callable[[Manifest], Manifest] | None) -> tuple[Manifest, bytes, bytes]:
    """Find a size the file can have when its manifest states it; the comment pads it to that."""
    rest_bytes = len(pack(files)) - len(pack({}))
    size_bytes = 0
    for attempt in range(_ATTEMPTS):
        candidate = _with_size(manifest, size_bytes)
        final, text = _stored(finish(candidate) if finish else candidate)
        comment = seal(text)
        needed_bytes = rest_bytes + len(pack({MANIFEST: text}, comment))
        padding_bytes = size_bytes - needed_bytes
        if 0 <= padding_bytes <= MAX_COMMENT_BYTES - len(comment):
            return final, text, comment + b" " * padding_bytes
        size_bytes = needed_bytes + attempt
    raise UsageError("the bundle's size does not settle: finish() keeps changing the manifest's "
                     "length; make it depend on the manifest alone")


def _with_size(manifest: Manifest, size_bytes: int) -> Manifest:
    size = Measurement(name="size_bytes", value=size_bytes, kind="measured")
    return manifest.model_copy(update={"compressed": manifest.compressed.with_(size)})


def _stored(manifest: Manifest) -> tuple[Manifest, bytes]:
    text = manifest.model_dump_json(exclude_none=True).encode()
    try:
        return Manifest.model_validate_json(text), text
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"the manifest cannot be stored: {where}: {first['msg']} once it "
                         "is written; give that field a finite value of its type") from error
