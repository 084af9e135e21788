"""The bundle's bytes: a zip whose layout depends on its content alone.

The archive's comment is a seal: the manifest's checksum, then spaces. The spaces let the file have
exactly the size that its own manifest states.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Final

from edgewright.bundle import _lzma

MANIFEST: Final = "manifest.json"
MAX_COMMENT_BYTES: Final = 65535

_SEAL: Final = b"edgewright sha256 "
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_UNIX: Final = 3
_READABLE: Final = 0o100644 << 16


def sha256(data: bytes) -> str:
    """Checksum of ``data``, in hex."""
    return hashlib.sha256(data).hexdigest()


def seal(manifest: bytes) -> bytes:
    """The comment, unpadded, of a bundle with that manifest."""
    return _SEAL + sha256(manifest).encode()


def pack(members: Mapping[str, bytes], comment: bytes = b"") -> bytes:
    """Zip the members in the order given: equal members, equal bytes.

    Segments of many zeros are packed with LZMA, all else with deflate.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            is_sparse = name != MANIFEST and _lzma.AVAILABLE and _lzma.pays(data)
            info.compress_type = zipfile.ZIP_LZMA if is_sparse else zipfile.ZIP_DEFLATED
            info.create_system = _UNIX
            info.external_attr = _READABLE
            archive.writestr(info, data, compresslevel=9)
        archive.comment = comment
    return buffer.getvalue()
