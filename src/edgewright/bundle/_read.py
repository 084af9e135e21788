"""Reading a bundle and verifying all of it."""

from __future__ import annotations

import os
import re
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import from_json

from edgewright.bundle import _lzma, _packing
from edgewright.bundle._archive import MANIFEST, member_names, seal, sha256
from edgewright.bundle._external_data import refers_to_other_files
from edgewright.core import FORMAT_VERSION, Manifest, ModelSpec, Segment
from edgewright.errors import BundleError

_MAX_MANIFEST_BYTES: Final = 1 << 26
_MAX_SEGMENTS_BYTES: Final = 1 << 31   # an ONNX file cannot be larger
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, _lzma.FAULT, NotImplementedError, RuntimeError,
                  EOFError, KeyError, ValueError, OverflowError, OSError)
_COPY_AGAIN: Final = "copy it again from its source"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle in memory.

    Attributes:
        path: The file it was read from.
        manifest: Its model part for a runtime, and its report part.
        segments: The bytes of each model file by name, in the manifest's order.
        unpacking_ms: Time to unpack and verify the segments on this machine, in milliseconds.
    """

    path: Path
    manifest: Manifest
    segments: Mapping[str, bytes]
    unpacking_ms: float = field(default=0.0, compare=False)


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle and verify its size, its manifest, and every segment's checksum.

    This detects damage and accidental changes. It is not a signature: anyone who can rewrite the
    whole file can make one that passes.

    Raises:
        BundleError: The file is missing, not a bundle, truncated or altered, of another format, or
            refers to tensors in other files.

    Example:
        >>> read_bundle("missing.edge")
        Traceback (most recent call last):
        ...
        edgewright.errors.BundleError: missing.edge: No such file or directory; check the path
    """
    path = Path(path)
    try:
        size_bytes = path.stat().st_size
        file = path.open("rb")
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; check the path") from error
    with file:
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise BundleError(f"{path} is not a bundle, or is truncated ({error}); {_COPY_AGAIN}, "
                              "or name a file that edgewright compress wrote") from error
        with archive:
            manifest = _read_manifest(archive, path)
            stated = manifest.report.compressed.get("size_bytes")
            if stated != size_bytes:
                raise BundleError(f"{path} is {size_bytes} bytes, but its manifest states "
                                  f"{stated}: it was altered; {_COPY_AGAIN}")
            start = time.perf_counter()
            segments = _read_segments(archive, manifest.model, path)
            return Bundle(path, manifest, segments, 1e3 * (time.perf_counter() - start))


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    if archive.namelist().count(MANIFEST) != 1:
        raise BundleError(f"{path} contains no {MANIFEST}: it is not a bundle; name a file that "
                          "edgewright compress wrote")
    text = _read_member(archive, MANIFEST, _MAX_MANIFEST_BYTES, path)
    if archive.comment.rstrip(b" ") != seal(text):
        raise BundleError(f"{path}: the manifest was altered (its sha256 differs); "
                          f"{_COPY_AGAIN}")
    try:
        _check_version(from_json(text), path)
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{path}: the manifest cannot be read: {where}: {first['msg']}; "
                          f"{_COPY_AGAIN}") from error
    except ValueError as error:
        raise BundleError(f"{path}: the manifest cannot be read: {error}; {_COPY_AGAIN}") from error


def _check_version(fields: object, path: Path) -> None:
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if not isinstance(version, int) or version == FORMAT_VERSION or version < 1:
        return
    remedy = ("run: pip install --upgrade edgewright" if version > FORMAT_VERSION
              else "create it again with edgewright compress")
    raise BundleError(f"{path} has bundle format {version}, but this version of edgewright reads "
                      f"only format {FORMAT_VERSION}; {remedy}")


def _read_segments(archive: zipfile.ZipFile, model: ModelSpec, path: Path) -> dict[str, bytes]:
    names = [name for segment in model.segments for name in member_names(segment)]
    present = sorted(name for name in archive.namelist() if name != MANIFEST)
    if not names or present != sorted(set(names)) or len(present) != len(names):
        raise BundleError(f"{path} contains the files {_short(present)}, but its manifest lists "
                          f"{_short(names)}: it was altered; {_COPY_AGAIN}")
    total_bytes = sum(abs(segment.size_bytes) for segment in model.segments)
    if total_bytes > _MAX_SEGMENTS_BYTES:
        raise BundleError(f"{path} would unpack to {total_bytes} bytes, expected at most "
                          f"{_MAX_SEGMENTS_BYTES}; {_COPY_AGAIN}")
    found = {segment.file: _read_segment(archive, segment, path) for segment in model.segments}
    for segment in model.segments:
        stored_bytes = sum(archive.getinfo(name).compress_size for name in member_names(segment))
        if stored_bytes != segment.stored_bytes:
            raise BundleError(f"{path}: {segment.file} takes {stored_bytes} bytes, but its "
                              f"manifest states {segment.stored_bytes}: it was altered; "
                              f"{_COPY_AGAIN}")
    return found


def _read_segment(archive: zipfile.ZipFile, segment: Segment, path: Path) -> bytes:
    try:
        _packing.check_places(segment.low_bit, segment.size_bytes)
    except ValueError as error:
        raise BundleError(f"{path}: {segment.file} cannot be reassembled: {error}: it was "
                          f"altered; {_COPY_AGAIN}") from error
    cut_bytes = sum(tensor.count for tensor in segment.low_bit)
    packed_bytes = sum(tensor.packed_bytes for tensor in segment.low_bit)
    limits = (segment.size_bytes - cut_bytes, packed_bytes)
    parts = [_read_member(archive, name, limit_bytes, path)
             for name, limit_bytes in zip(member_names(segment), limits, strict=False)]
    if segment.low_bit and tuple(map(len, parts)) != limits:
        raise BundleError(f"{path}: {segment.file} cannot be reassembled: its parts are "
                          f"{_sizes(map(len, parts))} bytes, expected {_sizes(limits)}: it was "
                          f"altered; {_COPY_AGAIN}")
    data = _packing.join(parts[0], b"".join(parts[1:]), segment.low_bit)
    if len(data) != segment.size_bytes or sha256(data) != segment.sha256:
        raise BundleError(f"{path}: {segment.file} was altered (its sha256 differs); "
                          f"{_COPY_AGAIN}")
    if refers_to_other_files(data):
        raise BundleError(f"{path}: {_printable(segment.file)} refers to tensors in another file "
                          "(external data), but a bundle must be self-contained; that file was "
                          "not opened; create the bundle again with edgewright compress")
    return data


def _read_member(archive: zipfile.ZipFile, name: str, limit_bytes: int, path: Path) -> bytes:
    """Unpack one member; never more than the limit, whatever its header states."""
    try:
        _check_packing(archive, archive.getinfo(name), path)
        with archive.open(name) as member:
            data = member.read(max(limit_bytes, 0) + 1)
    except _DAMAGE as error:
        raise BundleError(f"{path}: {_printable(name)} cannot be unpacked ({error}): the file is "
                          f"damaged; {_COPY_AGAIN}") from error
    if len(data) > limit_bytes:
        raise BundleError(f"{path}: {_printable(name)} unpacks to more than its {limit_bytes} "
                          f"bytes: it was altered; {_COPY_AGAIN}")
    return data


def _check_packing(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Check that a member's compression is supported and its memory use bounded."""
    if member.compress_type == zipfile.ZIP_DEFLATED:
        return
    if member.compress_type != zipfile.ZIP_LZMA:
        raise zipfile.BadZipFile("unknown compression")
    if not _lzma.AVAILABLE:
        raise BundleError(f"{path} contains a model compressed with LZMA, which this Python was "
                          "built without; use one that has the module lzma")
    if _lzma.read_dictionary_bytes(archive, member) > _lzma.MAX_DICTIONARY_BYTES:
        raise zipfile.BadZipFile("decompressing it would need too much memory")


def _sizes(sizes: Iterable[int]) -> str:
    return " and ".join(map(str, sizes))


def _short(names: list[str]) -> str:
    shown = ", ".join(map(_printable, names[:8]))
    return f"[{shown}, ...]" if len(names) > 8 else f"[{shown}]"


def _printable(name: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", name)[:80]
