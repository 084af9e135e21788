"""Answers to yes-or-no questions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.decoding import decode_answers


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=5), st.floats(0.01, 0.99))
def test_probabilities_and_answers_are_those_of_a_reference(logits: list[float],
                                                            threshold: float) -> None:
    (found,) = decode_answers(np.array([logits], dtype=np.float32), threshold)
    assert len(found) == len(logits)
    for answer, logit in zip(found, logits, strict=True):
        expected = 1 / (1 + math.exp(-logit))
        assert answer.probability == pytest.approx(expected)
        if abs(expected - threshold) > 1e-12:
            assert answer.yes == (expected > threshold)


@given(st.floats(-2.0**-99, 2.0**-99, width=32))
def test_half_is_the_sign_of_the_logit_as_the_metrics_count_it(logit: float) -> None:
    (found,) = decode_answers(np.array([logit], dtype=np.float32))
    assert bool(found.yes) == (logit > 0)


@pytest.mark.parametrize(("threshold", "expected"), [(0, [True, True]), (1, [False, False])])
def test_the_ends_of_the_threshold(threshold: float, expected: list[bool]) -> None:
    (found,) = decode_answers(np.array([[-1000.0, 1000.0]]), threshold)
    assert found.yes.tolist() == expected
    assert found.probabilities.tolist() == [0, 1]


@pytest.mark.parametrize(("logits", "names", "labels"), [
    (np.zeros(2), None, [""]), (np.zeros((2, 1)), None, [""]),
    (np.zeros((2, 1)), ("cat",), ["cat"]), (np.zeros(2), ("dog", "cat"), ["cat"]),
    (np.zeros((2, 2)), ("sun", "rain"), ["sun", "rain"]),
    (np.zeros((2, 2)), None, ["class 0", "class 1"]),
    (np.zeros((2, 2, 1, 2)), ("sun", "rain"), ["sun", "sun", "rain", "rain"]),
    (np.zeros((2, 2, 2)), None, [""] * 4), (np.zeros((2, 2, 2)), ("a", "b", "c"), [""] * 4),
])
def test_questions_have_names(logits: np.ndarray, names: tuple[str, ...] | None,
                              labels: list[str]) -> None:
    found = decode_answers(logits, names=names)
    assert len(found) == 2
    for answers in found:
        assert [answer.label for answer in answers] == labels
        assert answers.probabilities.shape == logits.shape[1:]


def test_labels_of_the_answers_that_are_yes() -> None:
    logits = np.array([[1.0, -1.0, 2.0]])
    assert decode_answers(logits, names=("a", "b", "c"))[0].labels == ["a", "c"]
    assert decode_answers(np.zeros((0, 3))) == []
