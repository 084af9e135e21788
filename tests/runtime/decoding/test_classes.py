"""Softmax and ranking against a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgewright.runtime import ClassRanking
from edgewright.runtime.decoding import decode_classes

LOGITS = arrays.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 6)),
                       elements=st.integers(-300, 300).map(float))


def slow_softmax(row: list[float]) -> list[float]:
    return [1 / sum(math.exp(min(other - value, 700)) for other in row) for value in row]


@given(LOGITS)
def test_probabilities_and_order_are_those_of_a_reference(logits: np.ndarray) -> None:
    found = decode_classes(logits)
    assert len(found) == len(logits)
    for ranking, row in zip(found, logits.tolist(), strict=True):
        np.testing.assert_allclose(ranking.probabilities, slow_softmax(row), rtol=1e-9, atol=1e-12)
        order = sorted(range(len(row)), key=lambda index: (-ranking.probabilities[index], index))
        assert [one.index for one in ranking.top(len(row))] == order
        assert ranking.label == f"class {order[0]}"
        assert ranking.probability == ranking.top(1)[0].probability


def test_equal_classes_keep_their_order() -> None:
    (ranking,) = decode_classes(np.zeros((1, 3)), ("a", "b", "c"))
    assert [one.label for one in ranking.top(9)] == ["a", "b", "c"]
    assert [one.probability for one in ranking.top(2)] == pytest.approx([1 / 3, 1 / 3])


@pytest.mark.parametrize(("logits", "expected"), [
    ([1000.0, 0.0], [1, 0]), ([-np.inf, 3.0], [0, 1]), ([-np.inf, -np.inf], [0, 0]),
    ([np.float16(60000), np.float16(-60000)], [1, 0]), ([7.0], [1])])
def test_extreme_logits(logits: list[float], expected: list[float]) -> None:
    (ranking,) = decode_classes(np.array([logits]))
    assert ranking.probabilities.tolist() == expected


def test_a_ranking_is_a_value() -> None:
    ranking = ClassRanking(np.array([1.0]))
    with pytest.raises(AttributeError):
        ranking.names = ("a",)  # type: ignore[misc]
