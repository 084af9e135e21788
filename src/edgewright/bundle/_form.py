"""Choose how a segment is stored: as it is, or with its low-bit integers packed."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from edgewright.bundle import _lzma, _packing
from edgewright.bundle._archive import Member
from edgewright.core import LowBitTensor


@dataclass(frozen=True)
class Form:
    """A segment as archive members; the second, if any, holds the packed ``low_bit`` integers."""

    members: tuple[Member, ...]
    low_bit: tuple[LowBitTensor, ...] = ()

    @property
    def stored_bytes(self) -> int:
        """Compressed size of the members in the archive, without headers."""
        return sum(member.stored_bytes for member in self.members)


def choose_smallest_form(data: bytes, low_bit: Sequence[LowBitTensor]) -> Form:
    """The form that takes the fewest bytes, including its description in the manifest.

    A file with low-bit integers is tried whole and packed, with every available codec. Any other
    file uses LZMA only if that is clearly smaller (`_lzma.is_worthwhile`), since it takes longer to
    unpack.

    Raises:
        ValueError: ``low_bit`` does not describe the file's content.
    """
    if not low_bit:
        return Form((_compressed(data),))
    whole = Form((_smallest(data),))
    rest, packed = _packing.cut(data, low_bit)
    apart = Form((_smallest(rest), _smallest(packed)), tuple(low_bit))
    places = json.dumps([tensor.model_dump() for tensor in low_bit]).encode()
    described_bytes = len(zlib.compress(places, 9))
    return min(whole, apart, key=lambda form: form.stored_bytes
               + (described_bytes if form is apart else 0))


def _compressed(data: bytes) -> Member:
    use_lzma = _lzma.AVAILABLE and _lzma.is_worthwhile(data)
    return Member(data, zipfile.ZIP_LZMA if use_lzma else zipfile.ZIP_DEFLATED)


def _smallest(data: bytes) -> Member:
    codecs = [zipfile.ZIP_DEFLATED, *([zipfile.ZIP_LZMA] if _lzma.AVAILABLE else [])]
    return min((Member(data, codec) for codec in codecs), key=lambda member: member.stored_bytes)
