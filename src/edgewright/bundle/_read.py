"""Reading a bundle: nothing is handed on that is not checked."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import from_json

from edgewright.bundle import _lzma
from edgewright.bundle._archive import MANIFEST, seal, sha256
from edgewright.core import FORMAT_VERSION, Manifest
from edgewright.errors import BundleError, UsageError

_MAX_MANIFEST_BYTES: Final = 1 << 26
_MAX_SEGMENTS_BYTES: Final = 1 << 31   # an ONNX file cannot be larger
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, _lzma.FAULT, NotImplementedError, RuntimeError,
                  EOFError, KeyError, ValueError, OverflowError, OSError)
_FETCH: Final = "copy it again from where it was made"


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory, verified.

    Attributes:
        path: Where it was read from.
        manifest: What it says of itself.
        segments: The bytes of each model file by its name, in the manifest's order.
    """

    path: Path
    manifest: Manifest
    segments: Mapping[str, bytes]


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle and check all of it: its size, its manifest, every segment's checksum.

    The checks find damage and careless change; they are no signature, so whoever can rewrite the
    whole file can make one that passes.

    Raises:
        BundleError: The file is missing, is no bundle, is truncated or altered, or is of a format
            that a newer version wrote.

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
            raise BundleError(f"{path} is not a bundle, or is cut short ({error}); {_FETCH}, or "
                              "name a file that edgewright compress wrote") from error
        with archive:
            manifest = _read_manifest(archive, path)
            stated = manifest.compressed.get("size_bytes")
            if stated != size_bytes:
                raise BundleError(f"{path} is {size_bytes} bytes, but its manifest states "
                                  f"{stated}: it was altered; {_FETCH}")
            return Bundle(path, manifest, _read_segments(archive, manifest, path))


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    if archive.namelist().count(MANIFEST) != 1:
        raise BundleError(f"{path} holds no {MANIFEST}: it is not a bundle; name a file that "
                          "edgewright compress wrote")
    text = _read_member(archive, MANIFEST, _MAX_MANIFEST_BYTES, path)
    if archive.comment.rstrip(b" ") != seal(text):
        raise BundleError(f"{path}: the manifest is not the one that was written (its sha256 "
                          f"differs): it was altered; {_FETCH}")
    try:
        _refuse_newer(from_json(text), path)
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{path}: the manifest cannot be read: {where}: {first['msg']}; "
                          f"{_FETCH}") from error
    except (ValueError, UsageError) as error:
        raise BundleError(f"{path}: the manifest cannot be read: {error}; {_FETCH}") from error


def _refuse_newer(fields: object, path: Path) -> None:
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(f"{path} is of format {version}, and this version of edgewright reads up "
                          f"to {FORMAT_VERSION}; run: pip install --upgrade edgewright")


def _read_segments(archive: zipfile.ZipFile, manifest: Manifest, path: Path) -> dict[str, bytes]:
    names = [segment.file for segment in manifest.segments]
    present = sorted(name for name in archive.namelist() if name != MANIFEST)
    if not names or present != sorted(set(names)) or len(present) != len(names):
        raise BundleError(f"{path} holds the files {_short(present)}, but its manifest lists "
                          f"{_short(names)}: it was altered; {_FETCH}")
    total_bytes = sum(abs(segment.size_bytes) for segment in manifest.segments)
    if total_bytes > _MAX_SEGMENTS_BYTES:
        raise BundleError(f"{path} would unpack to {total_bytes} bytes, more than the "
                          f"{_MAX_SEGMENTS_BYTES} a bundle may hold; refused")
    found = {}
    for segment in manifest.segments:
        data = _read_member(archive, segment.file, segment.size_bytes, path)
        if len(data) != segment.size_bytes or sha256(data) != segment.sha256:
            raise BundleError(f"{path}: {segment.file} is not the file that was written (its "
                              f"sha256 differs): it was altered; {_FETCH}")
        found[segment.file] = data
    return found


def _read_member(archive: zipfile.ZipFile, name: str, limit_bytes: int, path: Path) -> bytes:
    """Unpack one member, and never more than the limit, whatever its header says."""
    try:
        _check_packing(archive, archive.getinfo(name), path)
        with archive.open(name) as member:
            data = member.read(max(limit_bytes, 0) + 1)
    except _DAMAGE as error:
        raise BundleError(f"{path}: {_printable(name)} cannot be unpacked ({error}): the file is "
                          f"damaged; {_FETCH}") from error
    if len(data) > limit_bytes:
        raise BundleError(f"{path}: {_printable(name)} unpacks to more than its {limit_bytes} "
                          f"bytes: it was altered; {_FETCH}")
    return data


def _check_packing(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """See that a member is packed in a way that can be unpacked, within bounds."""
    if member.compress_type == zipfile.ZIP_DEFLATED:
        return
    if member.compress_type != zipfile.ZIP_LZMA:
        raise zipfile.BadZipFile("unknown compression")
    if not _lzma.AVAILABLE:
        raise BundleError(f"{path} holds a sparse model packed with LZMA, which this Python was "
                          "built without; use one that has the module lzma")
    if _lzma.dictionary_bytes(archive, member) > _lzma.MAX_DICTIONARY_BYTES:
        raise zipfile.BadZipFile("it asks for too much memory")


def _short(names: list[str]) -> str:
    shown = ", ".join(map(_printable, names[:8]))
    return f"[{shown}, ...]" if len(names) > 8 else f"[{shown}]"


def _printable(name: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", name)[:80]
