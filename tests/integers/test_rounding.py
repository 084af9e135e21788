"""Multiplying integers by real numbers with integers alone."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from edgewright.integers import choose_scaling, scale_integers


def test_results_are_rounded_half_to_even_as_exact_fractions_are() -> None:
    generator = np.random.default_rng(0)
    integers = generator.integers(-(2**24), 2**24, 5000)
    for factor, shift in ((1, 1), (3, 2), (-5, 3), (2**28 + 1, 37), (2**29 - 1, 20), (1 << 28, 30)):
        found = scale_integers(integers, factor, shift)
        exact = [round(Fraction(int(one) * factor, 2**shift)) for one in integers]
        assert found.tolist() == exact


@pytest.mark.parametrize("value", [1e-9, 0.0123, 0.5, 0.9999999999, 1.0, 3.7, 200.0, -0.3])
@pytest.mark.parametrize("bound", [255, 2**17, 2**24, 2**30])
def test_a_number_is_written_as_exactly_as_products_of_53_bits_allow(value: float,
                                                                    bound: int) -> None:
    factor, shift = choose_scaling(value, bound)
    bits = min(31, 53 - bound.bit_length())
    assert abs(factor / 2**shift / value - 1) <= 2.0**-bits
    assert (bound * abs(factor)).bit_length() <= 53
    assert 1 <= shift <= 62


def test_products_are_the_same_in_double_precision() -> None:
    generator = np.random.default_rng(1)
    integers = generator.integers(-(2**22), 2**22, 20000)
    factor, shift = choose_scaling(0.00371, 2**22)
    assert np.array_equal(scale_integers(integers, factor, shift),
                          np.rint(integers.astype(np.float64) * factor / 2.0**shift))


def test_a_number_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        choose_scaling(1e9, 2**24)


def test_zero_needs_no_bits() -> None:
    assert scale_integers(np.array([5, -7]), *choose_scaling(0.0, 10)).tolist() == [0, 0]
