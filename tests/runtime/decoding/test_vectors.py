"""Vectors of length 1, and numbers with their unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import DataError
from edgewright.runtime import Quantity
from edgewright.runtime.decoding import decode_numbers, decode_vectors

FLOATS = st.floats(-2.0**127, 2.0**127, width=32)


@given(st.lists(FLOATS, min_size=1, max_size=5))
def test_the_length_is_one_unless_all_are_zero(values: list[float]) -> None:
    (found,) = decode_vectors(np.array([values], dtype=np.float32))
    length = float(np.linalg.norm(found.values.astype(np.float64)))
    assert length == pytest.approx(1.0 if any(values) else 0.0, abs=1e-6)
    assert found.values.dtype == np.float32
    assert [np.sign(one) for one in found.values if one] == [
        np.sign(one) for one, kept in zip(values, found.values, strict=True) if kept]


def test_cosine_of_two_samples() -> None:
    first, second, third = decode_vectors(np.array([[1.0, 1.0], [0.0, 5.0], [-2.0, -2.0]]))
    assert first.cosine(second) == pytest.approx(2**-0.5)
    assert first.cosine(third) == pytest.approx(-1)
    assert decode_vectors(np.zeros((0, 3))) == []


def test_numbers_are_as_the_model_returned_them() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = decode_numbers(values, "m")
    np.testing.assert_array_equal([one.values for one in found], values)
    assert [one.unit for one in found] == ["m", "m"]


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 1, 1)])
def test_one_number_is_a_float(shape: tuple[int, ...]) -> None:
    found = decode_numbers(np.full(shape, 1.5, dtype=np.float32))
    assert [float(one) for one in found] == [1.5, 1.5]


def test_several_numbers_are_no_float() -> None:
    with pytest.raises(DataError, match=r"there are 2 values, of shape \(2,\); read \.values"):
        float(Quantity(np.zeros(2)))
