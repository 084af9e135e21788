"""LZMA in a zip: when it is worthwhile, and the memory that decoding a member takes."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import Final

try:
    import lzma
except ImportError:  # a Python that was built without liblzma
    AVAILABLE = False
    FAULT: type[Exception] = zlib.error
else:
    AVAILABLE = True
    FAULT = lzma.LZMAError

MAX_DICTIONARY_BYTES: Final = 1 << 23  # what zipfile writes; the decoder allocates it
_CLEARLY: Final = 1 / 32
_SLICES: Final = 16
_SLICE_BYTES: Final = 1 << 16
_NAME_LENGTHS: Final = 26  # offset in a local header of the lengths of name and extra field
_PROPERTIES: Final = struct.Struct("<4xBI")  # version and length, then lc/lp/pb, dictionary


def is_worthwhile(data: bytes) -> bool:
    """Whether LZMA compresses a sample of ``data`` clearly better than deflate.

    It does if zeros are scattered in the data (``benchmarks/pruning/sparse_bytes.py``) or if two or
    more integers share a byte; dense weights gain too little for the time it takes.

    Example:
        >>> from random import Random
        >>> dense = Random(0).randbytes(1 << 14)
        >>> sparse = bytes(byte if byte > 200 else 0 for byte in dense)
        >>> is_worthwhile(dense), is_worthwhile(sparse)
        (False, True)
    """
    sample = _sample(data)
    lzma_bytes = len(lzma.compress(sample, format=lzma.FORMAT_ALONE))
    return lzma_bytes < (1 - _CLEARLY) * len(zlib.compress(sample, 9))


def _sample(data: bytes) -> bytes:
    """Evenly spaced slices of ``data``, short enough to compress quickly."""
    if len(data) <= _SLICES * _SLICE_BYTES:
        return data
    begins = range(0, len(data) - _SLICE_BYTES, (len(data) - _SLICE_BYTES) // _SLICES)
    return b"".join(data[begin:begin + _SLICE_BYTES] for begin in begins)


def read_dictionary_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The dictionary size that an LZMA member makes its decoder allocate.

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
            raise zipfile.BadZipFile("a header is truncated")
        file.seek(sum(struct.unpack("<HH", lengths)), 1)
        header = file.read(_PROPERTIES.size)
    finally:
        file.seek(place)
    if len(header) < _PROPERTIES.size:
        raise zipfile.BadZipFile("an LZMA header is truncated")
    return int(_PROPERTIES.unpack(header)[1])
