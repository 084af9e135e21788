"""Deciding with integers alone whether an early exit is sure of a sample.

An exit is sure if the top softmax probability reaches its threshold, that is, if the sum of
``exp((logit - top logit) / temperature)`` over all classes is at most ``1 / threshold``. Powers of
two come from a table of `TABLE_STEPS` entries per octave, between which they are interpolated.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgewright.core import Value
from edgewright.integers._rounding import choose_scaling

ONE_BITS: Final = 24       # of the number that stands for 1
EXPONENT_BITS: Final = 16  # of an exponent behind the point
TABLE_BITS: Final = 6
TABLE_STEPS: Final = 1 << TABLE_BITS
POWERS: Final = np.rint(np.exp2(ONE_BITS - np.arange(TABLE_STEPS + 1) / TABLE_STEPS)).astype(
    np.int64)
_MAX_DIFFERENCE: Final = 2**32 - 1


class ExitTest(Value):
    """When a sample leaves at an exit.

    Attributes:
        factor: Differences of logits times it, over ``2**shift``, are exponents of base 2 with
            `EXPONENT_BITS` bits behind the point.
        shift: See ``factor``.
        limit: The largest sum of the powers of all classes that leaves, in units of
            ``2**-ONE_BITS``; below 1 no sample leaves.
    """

    factor: int = Field(ge=0, lt=2**31)
    shift: int = Field(ge=1, le=62)
    limit: int = Field(ge=0, lt=2**62)

    @classmethod
    def of(cls, scale: float, threshold: float, temperature: float = 1.0) -> ExitTest:
        """The test of logits with a scale against a threshold of the confidence.

        Args:
            scale: The step of the logits' integers.
            threshold: Lowest top softmax probability that leaves; above 1 none does.
            temperature: Divides the logits before their softmax.

        Example:
            >>> test = ExitTest.of(scale=0.5, threshold=0.7)
            >>> test.is_sure(np.array([[4, 0, 0], [1, 0, 0]])).tolist()
            [True, False]
        """
        steps = scale / temperature * math.log2(math.e) * 2.0**EXPONENT_BITS
        factor, shift = choose_scaling(steps, _MAX_DIFFERENCE)
        limit = 0 if threshold > 1 else (
            2**61 if threshold <= 0 else int(2.0**ONE_BITS / threshold))
        return cls(factor=factor, shift=shift, limit=min(limit, 2**61))

    def is_sure(self, logits: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each sample leaves, (N,), for logits (N, classes) as integers."""
        wide = logits.astype(np.int64)
        exponents = (wide.max(axis=1, keepdims=True) - wide) * self.factor >> self.shift
        whole = np.minimum(exponents >> EXPONENT_BITS, ONE_BITS + 1)
        place = exponents & ((1 << EXPONENT_BITS) - 1)
        entry, between = place >> (EXPONENT_BITS - TABLE_BITS), place & (
            (1 << (EXPONENT_BITS - TABLE_BITS)) - 1)
        powers = POWERS[entry] - ((POWERS[entry] - POWERS[entry + 1]) * between
                                  >> (EXPONENT_BITS - TABLE_BITS))
        sure: NDArray[np.bool_] = (powers >> whole).sum(axis=1) <= self.limit
        return sure
