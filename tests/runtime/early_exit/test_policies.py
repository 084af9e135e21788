"""Scores of an exit against their definitions, sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import EXIT_POLICIES, ExitRule
from edgewright.errors import DataError
from edgewright.runtime import Streaks, confidence, exit_scores, gate_inputs

RULE = ExitRule(threshold=0.5)
ROWS = st.lists(st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4), min_size=1,
                max_size=6)


def softmax(row: Any, temperature: Any) -> Any:
    powers = np.exp((row - row.max()) / temperature)
    return powers / powers.sum()


def score(policy: Any, logits: Any, rule: Any = RULE) -> Any:
    return exit_scores(policy, rule, logits, Streaks.begin(logits))


@given(ROWS, st.floats(0.25, 8))
def test_scores_are_what_their_definitions_say(rows: Any, temperature: Any) -> None:
    logits = np.array(rows)
    rule = ExitRule(threshold=0.5, temperature=temperature, gate=(0.5, -1.0, 2.0, 0.25))
    for index, row in enumerate(logits):
        chances = softmax(row, temperature)
        first, second = sorted(chances)[::-1][:2]
        entropy = -sum(p * np.log(p) for p in chances if p > 0)
        surely = 1 - entropy / np.log(4)
        gate = 1 / (1 + np.exp(-(0.5 - first + 2 * (first - second) + 0.25 * surely)))
        for policy, expected in (("confidence", first), ("margin", first - second),
                                 ("entropy", surely), ("gate", gate)):
            assert score(policy, logits, rule)[index] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=6))
def test_patience_counts_exits_in_a_row_that_agree(classes: Any) -> None:
    streaks = None
    for answers in classes:
        logits = np.eye(3)[answers]
        streaks = Streaks.begin(logits) if streaks is None else streaks.then(logits)
    assert streaks is not None
    found = exit_scores("patience", RULE, logits, streaks)
    for sample in range(4):
        said = [answers[sample] for answers in classes]
        expected = next((back for back, one in enumerate(reversed(said)) if one != said[-1]),
                        len(said))
        assert found[sample] == expected


def test_streaks_of_some_samples_go_on_as_those_of_all() -> None:
    first, second = np.eye(3)[[0, 1, 2]], np.eye(3)[[0, 2, 2]]
    rows = np.array([True, False, True])
    part = Streaks.begin(first).of(rows).then(second[rows])
    np.testing.assert_array_equal(part.lengths, Streaks.begin(first).then(second).lengths[rows])


def test_a_higher_temperature_is_less_sure_and_names_the_same_class() -> None:
    logits = np.array([[4.0, 1.0, 0.0]])
    found = [float(confidence(logits, temperature)[0]) for temperature in (0.5, 1, 2, 4)]
    assert found == sorted(found, reverse=True)
    assert gate_inputs(logits, 1.0)[0, 1] == pytest.approx(found[1])


@pytest.mark.parametrize("policy", EXIT_POLICIES)
def test_a_logit_that_is_no_number_reaches_no_threshold(policy: Any) -> None:
    rule = ExitRule(threshold=-9.0, gate=(1.0, 0.0, 0.0, 0.0))
    scores = score(policy, np.array([[np.nan, 1.0, 0.0], [3.0, 1.0, 0.0]]), rule)
    assert (scores >= rule.threshold).tolist() == [False, True]


@pytest.mark.parametrize("policy", EXIT_POLICIES)
def test_what_is_no_classifier_is_refused(policy: Any) -> None:
    for shape in ((2, 3, 4), (2, 1), (2,)):
        with pytest.raises(DataError, match="expected \\(N, classes\\) with two classes or more"):
            score(policy, np.zeros(shape), ExitRule(threshold=0.5, gate=(0.0,) * 4))
