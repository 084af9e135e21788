"""LZMA in a zip: used where a segment is mostly zeros, refused where it asks for much memory."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import Final

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without liblzma
    AVAILABLE = False
    FAULT: type[Exception] = zlib.error
else:
    AVAILABLE = True
    FAULT = LZMAError

MAX_DICTIONARY_BYTES: Final = 1 << 23  # what zipfile writes; the decoder allocates it
_ZEROS: Final = 0.25
_NAME_LENGTHS: Final = 26  # where a local header holds the lengths of its name and extra field
_PROPERTIES: Final = struct.Struct("<4xBI")  # version and length, then lc/lp/pb, dictionary


def pays(data: bytes) -> bool:
    """Whether LZMA packs ``data`` clearly smaller than deflate: where zeros are scattered in it.

    Measured in ``benchmarks/sparse_bytes.py``; dense weights gain nothing for the time it takes.

    Example:
        >>> pays(bytes([0, 7, 0, 9])), pays(bytes(range(256)))
        (True, False)
    """
    return data.count(0) >= _ZEROS * max(1, len(data))


def dictionary_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The memory that an LZMA member asks its decoder for.

    Raises:
        zipfile.BadZipFile: The member has no LZMA header.
    """
    file = archive.fp
    if file is None:
        raise zipfile.BadZipFile("the archive is closed")
    place = file.tell()
    try:
        file.seek(member.header_offset + _NAME_LENGTHS)
        lengths = file.read(4)
        if len(lengths) < 4:
            raise zipfile.BadZipFile("a header is cut short")
        file.seek(sum(struct.unpack("<HH", lengths)), 1)
        header = file.read(_PROPERTIES.size)
    finally:
        file.seek(place)
    if len(header) < _PROPERTIES.size:
        raise zipfile.BadZipFile("an LZMA header is cut short")
    return int(_PROPERTIES.unpack(header)[1])
