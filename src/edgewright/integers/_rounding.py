"""Multiplying integers by real numbers with integers alone."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_PRODUCT_BITS: Final = 53   # of a product: exact in double precision, too
_FACTOR_BITS: Final = 31
_MAX_SHIFT: Final = 62


class Scaling(NamedTuple):
    """A real number as ``factor / 2**shift``."""

    factor: int
    shift: int


def choose_scaling(value: float, bound: int) -> Scaling:
    """The best approximation of a number whose products with integers are exact in 53 bits.

    So a product may be computed with integers of 64 bits, or in double precision, and is the same.

    Args:
        value: The number.
        bound: The largest magnitude of the integers.

    Raises:
        ValueError: The number is too large to be written so.

    Example:
        >>> choose_scaling(0.75, bound=2**30)
        Scaling(factor=3145728, shift=22)
    """
    bits = min(_FACTOR_BITS, _PRODUCT_BITS - max(1, int(bound).bit_length()))
    if value == 0:
        return Scaling(0, 1)
    mantissa, exponent = np.frexp(abs(value))
    shift = min(bits - int(exponent), _MAX_SHIFT)
    factor = round(float(np.ldexp(mantissa, int(exponent) + shift)))
    if factor == 1 << bits:
        factor, shift = factor >> 1, shift - 1
    if shift < 1:
        raise ValueError(f"{value} is too large for a factor of {bits} bits")
    return Scaling(factor if value > 0 else -factor, shift)


def scale_integers(integers: NDArray[np.int64], factors: Any, shifts: Any) -> NDArray[np.int64]:
    """``integers * factors / 2**shifts``, rounded half to even.

    Example:
        >>> scale_integers(np.array([1, 3, 5, -1, -3]), 1, 1).tolist()
        [0, 2, 2, 0, -2]
    """
    products = integers * np.asarray(factors, np.int64)
    shift = np.asarray(shifts, np.int64)
    half = np.left_shift(np.int64(1), shift - 1)
    rounded: NDArray[np.int64] = (products + half - 1 + (products >> shift & 1)) >> shift
    return rounded
