"""Weights as kernels read them: rows of 8, 4, 2 or 1 bits."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_PACKED: Final = (1, 2, 4)   # bits that a kernel reads


def pack_weights(weight: NDArray[Any], bits: int, *,
                 depthwise: bool = False) -> tuple[NDArray[Any], int]:
    """Pack weights of few bits, each output's row into whole bytes, the first in the lowest bits.

    Args:
        weight: (outputs, kernel height, kernel width, inputs / groups), of int8.
        bits: Bits that they need; 1 for weights of -1 and 1 alone.
        depthwise: Whether every output reads one channel: then the weights are stored by tap and
            output, in 8 bits.

    Returns:
        The integers, and the bits that each takes.

    Example:
        >>> pack_weights(np.array([[[[1, -2, 0]]]], np.int8), 3)
        (array([[225,   0]], dtype=uint8), 4)
    """
    rows = weight.reshape(len(weight), -1)
    if depthwise:
        return np.ascontiguousarray(rows.T), 8
    width = next((packed for packed in _PACKED if bits <= packed), 8)
    if width == 8:
        return rows, 8
    digits = (rows > 0).astype(np.uint8) if width == 1 else rows.view(np.uint8) & ((1 << width) - 1)
    each = 8 // width
    padded = np.zeros((len(rows), -(-rows.shape[1] // each) * each), np.uint8)
    padded[:, :rows.shape[1]] = digits
    parts = padded.reshape(len(rows), -1, each) << (width * np.arange(each, dtype=np.uint8))
    return np.bitwise_or.reduce(parts, axis=2).astype(np.uint8), width
