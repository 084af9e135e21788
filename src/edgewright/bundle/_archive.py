"""The bundle as a zip archive whose bytes depend on its content alone.

The archive's comment holds the manifest's checksum, then spaces that pad the file to exactly the
size that its own manifest states.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from edgewright.core import Segment

MANIFEST: Final = "manifest.json"
MAX_COMMENT_BYTES: Final = 65535

_SEAL: Final = b"edgewright sha256 "
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_UNIX: Final = 3
_READABLE: Final = 0o100644 << 16


@dataclass(frozen=True)
class Member:
    """A file of the archive and its compression, a ``zipfile`` constant."""

    data: bytes
    codec: int = zipfile.ZIP_DEFLATED

    @cached_property
    def stored_bytes(self) -> int:
        """Compressed size in the archive, without headers."""
        buffer = io.BytesIO(pack({"member": self}))
        with zipfile.ZipFile(buffer) as archive:
            return archive.getinfo("member").compress_size


def sha256(data: bytes) -> str:
    """Checksum of ``data``, in hex."""
    return hashlib.sha256(data).hexdigest()


def seal(manifest: bytes) -> bytes:
    """The archive comment, without padding, of a bundle with that manifest."""
    return _SEAL + sha256(manifest).encode()


def member_names(segment: Segment) -> tuple[str, ...]:
    """The archive members of a segment: its file, and its packed integers if it has any."""
    packed = (f"{segment.file}.packed",) if segment.low_bit else ()
    return (segment.file, *packed)


def pack(members: Mapping[str, Member], comment: bytes = b"") -> bytes:
    """Zip the members in the given order; equal members give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in members.items():
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.compress_type = member.codec
            info.create_system = _UNIX
            info.external_attr = _READABLE
            archive.writestr(info, member.data, compresslevel=9)
        archive.comment = comment
    return buffer.getvalue()
