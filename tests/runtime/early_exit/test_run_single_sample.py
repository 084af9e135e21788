"""The walk of one sample in plain numbers is that of arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import EXIT_POLICIES, ExitRule, OperatingPoint
from edgewright.errors import DataError
from edgewright.runtime import Streaks, exit_scores
from edgewright.runtime.early_exit import run_single_sample, run_with_exits
from edgewright.runtime.early_exit._policies import score_single_sample

VALUES = st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=12)


@given(VALUES, st.floats(0.1, 10), st.integers(1, 5))
def test_scores_are_those_of_arrays(values: Any, temperature: Any, streak: Any) -> None:
    rule = ExitRule(threshold=0.5, temperature=temperature, gate=(0.5, -1.0, 2.0, 0.25))
    logits = np.array([values], dtype=np.float32)
    streaks = Streaks(logits.argmax(axis=1), np.array([streak]))
    for policy in EXIT_POLICIES:
        expected = exit_scores(policy, rule, logits, streaks)[0]
        found = score_single_sample(policy, rule, logits[0].tolist(), streak)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), policy


@pytest.mark.parametrize("policy", EXIT_POLICIES)
@pytest.mark.parametrize("values", [[math.nan, 1.0], [1.0, math.nan], [math.inf, math.inf]])
def test_what_is_no_number_is_not_sure(policy: Any, values: list[Any]) -> None:
    rule = ExitRule(threshold=0.0, gate=(1.0, 0.0, 0.0, 0.0))
    assert not score_single_sample(policy, rule, values, 3) >= 0


def test_a_gate_that_is_certain_does_not_overflow() -> None:
    rule = ExitRule(threshold=0.5, gate=(-1e6, 0.0, 0.0, 0.0))
    assert score_single_sample("gate", rule, [1.0, 0.0], 1) == 0.0


@pytest.mark.parametrize("policy", EXIT_POLICIES)
@pytest.mark.parametrize("takes_inputs", [frozenset(), frozenset({0, 1})])
@pytest.mark.parametrize("timely", [True, False])
def test_every_sample_goes_where_it_goes_in_a_batch(policy: Any, takes_inputs: Any,
                                                    timely: bool) -> Any:
    tables = np.random.default_rng(1).normal(size=(3, 60, 4))
    level = 2.0 if policy == "patience" else 0.5
    rule = ExitRule(threshold=level, temperature=0.8, gate=(-3.0, 4.0, 1.0, 1.0))
    point = OperatingPoint(name="p", policy=policy, path=(2, 0, 1), rules=(rule, rule))

    def run(segment: Any, inputs: Any) -> tuple[Any, ...]:
        return tables[segment, inputs[0][:, 0].astype(int)], inputs[0]

    def has_time(segment: Any, samples: Any) -> Any:
        return timely or segment != 1

    inputs = np.arange(60.0)[:, None]
    together = run_with_exits(point, takes_inputs, (inputs,), run, has_time)
    assert len(set(together.exits)) > 1 or not timely
    for sample in range(60):
        alone = run_single_sample(point, takes_inputs, (inputs[[sample]],), run, has_time)
        assert alone.exits == [together.exits[sample]]
        assert alone.cut_short == [together.cut_short[sample]]
        np.testing.assert_array_equal(alone.outputs[0][0], together.outputs[0][sample])
        assert alone.first_confidence[0] == pytest.approx(together.first_confidence[sample])


def test_what_is_no_classifier_is_refused() -> None:
    point = OperatingPoint(name="p", path=(0, 1), rules=(ExitRule(threshold=0.5),))
    with pytest.raises(DataError, match="two classes or more"):
        run_single_sample(point, frozenset(), (np.zeros((1, 1)),),
                 lambda segment, inputs: (np.zeros((1, 3, 5)),), lambda segment, samples: True)
