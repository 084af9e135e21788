"""Pack low-bit integers, several per byte: cut them out of a segment's file and put them back.

A byte holds only whole integers (two of 4 or 3 bits, four of 2, eight of 1), so that no integer
is split between bytes and the bundle's compression finds repeated patterns; the unused bits of a
byte compress to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import LowBitTensor

_MAX_BITS: Final = 4


def describe_low_bits(data: bytes, offset: int, count: int) -> LowBitTensor | None:
    """Describe a byte range of a file as low-bit integers; None if they need more than 4 bits.

    Args:
        data: The file.
        offset: Start of the range, in bytes.
        count: Number of bytes, each an int8.

    Example:
        >>> describe_low_bits(bytes([9, 1, 255, 255, 1]), offset=1, count=4)
        LowBitTensor(offset=1, count=4, bits=1, low=-1, step=2)
        >>> describe_low_bits(bytes(range(0, 128, 8)), offset=0, count=16)
        LowBitTensor(offset=0, count=16, bits=4, low=0, step=8)
        >>> describe_low_bits(bytes(range(17)), offset=0, count=17) is None
        True
    """
    values = np.frombuffer(data, dtype=np.int8, count=count, offset=offset)
    low, high = int(values.min()), int(values.max())
    step = max(1, int(np.gcd.reduce(values.astype(np.int16) - low)))
    bits = max(1, ((high - low) // step).bit_length())
    if bits > _MAX_BITS:
        return None
    return LowBitTensor(offset=offset, count=count, bits=bits, low=low, step=step)


def cut(data: bytes, tensors: Sequence[LowBitTensor]) -> tuple[bytes, bytes]:
    """Split a file into its bytes without the tensors, and the tensors' packed integers.

    Raises:
        ValueError: The tensors are out of order, overlap, extend beyond the end of the file, or do
            not describe its content.

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
    """Reassemble a file from the two parts that `cut` returned.

    Raises:
        ValueError: The tensors do not match the parts.

    Example:
        >>> join(b"ab", bytes([9]), [LowBitTensor(offset=1, count=4, bits=1, low=-1, step=2)])
        b'a\\x01\\xff\\xff\\x01b'
    """
    check_places(tensors, len(rest) + sum(tensor.count for tensor in tensors))
    if len(packed) != sum(tensor.packed_bytes for tensor in tensors):
        raise ValueError(f"there are {len(packed)} bytes of packed integers, expected "
                         f"{sum(tensor.packed_bytes for tensor in tensors)}")
    parts, end, taken, used = [], 0, 0, 0
    for tensor in tensors:
        gap = tensor.offset - end
        parts += [rest[taken:taken + gap],
                  _unpack(packed[used:used + tensor.packed_bytes], tensor)]
        taken, used, end = taken + gap, used + tensor.packed_bytes, tensor.offset + tensor.count
    return b"".join([*parts, rest[taken:]])


def check_places(tensors: Sequence[LowBitTensor], size_bytes: int) -> None:
    """Check that the tensors are in order and lie inside a file of that size.

    Raises:
        ValueError: They are not.
    """
    end = 0
    for tensor in tensors:
        if tensor.offset < end:
            raise ValueError(f"the packed range at byte {tensor.offset} overlaps the previous "
                             f"one, which ends at byte {end}")
        end = tensor.offset + tensor.count
        if end > size_bytes:
            raise ValueError(f"the packed range at byte {tensor.offset} ends at byte {end}, "
                             f"beyond the file's {size_bytes}")


def _pack(data: bytes, tensor: LowBitTensor) -> bytes:
    values = np.frombuffer(data, dtype=np.int8, count=tensor.count, offset=tensor.offset)
    digits, remainders = np.divmod(values.astype(np.int16) - tensor.low, tensor.step)
    if remainders.any() or digits.min() < 0 or digits.max() >= 1 << tensor.bits:
        raise ValueError(f"the range at byte {tensor.offset} holds integers that are not of "
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
