"""Integers of few bits, several to a byte: cut out of a segment's file, and put back.

A byte holds only whole integers (two of 4 or 3 bits, four of 2, eight of 1), so that the same
neighbours always meet in the same byte: the compression of the bundle then finds what they have in
common, and what the integers leave of the byte costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import LowBitTensor

_MOST_BITS: Final = 4


def low_bit_tensor(data: bytes, offset: int, count: int) -> LowBitTensor | None:
    """Describe a stretch of a file as integers of few bits; None where they need more than four.

    Args:
        data: The file.
        offset: Where the stretch begins, in bytes.
        count: Bytes in it, each an int8.

    Example:
        >>> low_bit_tensor(bytes([9, 1, 255, 255, 1]), offset=1, count=4)
        LowBitTensor(offset=1, count=4, bits=1, low=-1, step=2)
        >>> low_bit_tensor(bytes(range(0, 128, 8)), offset=0, count=16)
        LowBitTensor(offset=0, count=16, bits=4, low=0, step=8)
        >>> low_bit_tensor(bytes(range(17)), offset=0, count=17) is None
        True
    """
    values = np.frombuffer(data, dtype=np.int8, count=count, offset=offset)
    low, high = int(values.min()), int(values.max())
    step = max(1, int(np.gcd.reduce(values.astype(np.int16) - low)))
    bits = max(1, ((high - low) // step).bit_length())
    if bits > _MOST_BITS:
        return None
    return LowBitTensor(offset=offset, count=count, bits=bits, low=low, step=step)


def cut(data: bytes, tensors: Sequence[LowBitTensor]) -> tuple[bytes, bytes]:
    """Split a file into what is left when the tensors are cut out, and their packed integers.

    Raises:
        ValueError: The tensors are not in the file's order, overlap, reach beyond its end, or
            hold other integers than they state.

    Example:
        >>> rest, packed = cut(bytes([9, 1, 255, 255, 1, 7]),
        ...                    [LowBitTensor(offset=1, count=4, bits=1, low=-1, step=2)])
        >>> rest, packed
        (b'\\t\\x07', b'\\t')
    """
    check_places(tensors, len(data))
    ends = [0, *(tensor.offset + tensor.count for tensor in tensors)]
    begins = [*(tensor.offset for tensor in tensors), len(data)]
    rest = b"".join(data[end:begin] for end, begin in zip(ends, begins, strict=True))
    return rest, b"".join(_pack(data, tensor) for tensor in tensors)


def join(rest: bytes, packed: bytes, tensors: Sequence[LowBitTensor]) -> bytes:
    """Put a file together again, from what `cut` returned.

    Raises:
        ValueError: The tensors do not fit what is there.

    Example:
        >>> join(b"ab", bytes([9]), [LowBitTensor(offset=1, count=4, bits=1, low=-1, step=2)])
        b'a\\x01\\xff\\xff\\x01b'
    """
    check_places(tensors, len(rest) + sum(tensor.count for tensor in tensors))
    if len(packed) != sum(tensor.packed_bytes for tensor in tensors):
        raise ValueError("the packed integers are cut short, or too many")
    parts, end, taken, used = [], 0, 0, 0
    for tensor in tensors:
        gap = tensor.offset - end
        parts += [rest[taken:taken + gap],
                  _unpack(packed[used:used + tensor.packed_bytes], tensor)]
        taken, used, end = taken + gap, used + tensor.packed_bytes, tensor.offset + tensor.count
    return b"".join([*parts, rest[taken:]])


def check_places(tensors: Sequence[LowBitTensor], size_bytes: int) -> None:
    """See that the tensors follow each other inside a file of that size.

    Raises:
        ValueError: They do not.
    """
    end = 0
    for tensor in tensors:
        if tensor.offset < end:
            raise ValueError(f"the packed stretch at byte {tensor.offset} begins before the one "
                             f"ahead of it ends, at byte {end}")
        end = tensor.offset + tensor.count
        if end > size_bytes:
            raise ValueError(f"the packed stretch at byte {tensor.offset} ends at byte {end}, "
                             f"beyond the file's {size_bytes}")


def _pack(data: bytes, tensor: LowBitTensor) -> bytes:
    values = np.frombuffer(data, dtype=np.int8, count=tensor.count, offset=tensor.offset)
    digits, remainders = np.divmod(values.astype(np.int16) - tensor.low, tensor.step)
    if remainders.any() or digits.min() < 0 or digits.max() >= 1 << tensor.bits:
        raise ValueError(f"the stretch at byte {tensor.offset} holds other integers than "
                         f"{tensor.bits} bits from {tensor.low} in steps of {tensor.step}")
    shifts = _shifts(tensor.bits)
    padded = np.zeros((tensor.packed_bytes, shifts.size), dtype=np.uint8)
    padded.reshape(-1)[:tensor.count] = digits
    codes: NDArray[np.uint8] = np.bitwise_or.reduce(padded << shifts, axis=1)
    return codes.tobytes()


def _unpack(packed: bytes, tensor: LowBitTensor) -> bytes:
    codes = np.frombuffer(packed, dtype=np.uint8)[:, None]
    digits = (codes >> _shifts(tensor.bits)) & np.uint8((1 << tensor.bits) - 1)
    values = digits * np.uint8(tensor.step) + np.uint8(tensor.low % 256)  # int8, modulo 256
    return values.tobytes()[:tensor.count]


def _shifts(bits: int) -> NDArray[np.uint8]:
    return np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
