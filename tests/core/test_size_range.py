"""Ranges of sizes: their text, their JSON, and what is impossible."""

from __future__ import annotations

import pytest

from edgewright.core import SizeRange, TensorSpec, find_unequal_sizes, find_wrong_size, format_shape

LENGTH = SizeRange(low=16, high=400, name="x_2")


def test_a_range_survives_json() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=(None, 4, LENGTH))
    assert TensorSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(("size", "fits"), [(15, False), (16, True), (400, True), (401, False)])
def test_both_ends_belong_to_the_range(size: int, fits: bool) -> None:
    assert (size in LENGTH) is fits
    assert (find_wrong_size((7, 4, size), (None, 4, LENGTH)) is None) is fits


def test_a_shape_as_text() -> None:
    assert format_shape((None, 4, LENGTH)) == "(N, 4, 16..400)"


def test_sizes_of_one_name_are_compared() -> None:
    other = SizeRange(low=16, high=400)
    expected = [(None, LENGTH, other), (None, LENGTH)]
    assert find_unequal_sizes([(1, 20, 30), (1, 20)], expected) is None
    assert find_unequal_sizes([(1, 20, 30), (1, 30)], expected) == (0, 1, 1, 1)


def test_an_impossible_range_is_refused() -> None:
    with pytest.raises(ValueError, match="a size from 9 to 4 is impossible"):
        SizeRange(low=9, high=4)


def test_steps_divide_the_range() -> None:
    stepped = SizeRange(low=5, high=41, step=3)
    assert [size for size in range(60) if size in stepped] == list(range(5, 42, 3))
    assert str(stepped) == "5..41 in steps of 3"
    assert SizeRange.model_validate(stepped.model_dump()) == stepped
    with pytest.raises(ValueError, match="steps of 3 from 5 do not reach 42; give 41 as the larg"):
        SizeRange(low=5, high=42, step=3)
