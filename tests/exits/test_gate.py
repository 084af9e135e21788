"""The learned gate: the one minimum of its loss, and sense."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgewright.core import ExitRule
from edgewright.exits._gate import fit_gate
from edgewright.runtime import Streaks, exit_scores, gate_inputs


def drawn(seed: int, count: int = 400) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 5)) * rng.uniform(0.2, 4, size=(count, 1))
    inputs = gate_inputs(logits, 1.0)
    return logits, inputs, rng.random(count) < inputs[:, 1]


def slow_gradient(weights: Any, inputs: Any, well: Any) -> Any:
    found = list(weights)
    for row, leaves in zip(inputs.tolist(), well.tolist(), strict=True):
        score = sum(weight * value for weight, value in zip(weights, row, strict=True))
        chance = 1 / (1 + math.exp(-score))
        found = [old + (chance - leaves) * value for old, value in zip(found, row, strict=True)]
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_gradient_is_zero_at_the_fitted_weights(seed: int) -> None:
    _, inputs, well = drawn(seed)
    weights = fit_gate(inputs, well)
    assert slow_gradient(weights, inputs, well) == pytest.approx([0, 0, 0, 0], abs=1e-3)
    assert weights == fit_gate(inputs, well)


def test_gate_probabilities_match_observed_frequencies() -> None:
    logits, inputs, well = drawn(3, count=4000)
    rule = ExitRule(threshold=0.5, gate=fit_gate(inputs, well))
    scores = exit_scores("gate", rule, logits, Streaks.begin(logits))
    assert scores.mean() == pytest.approx(well.mean(), abs=0.01)
    assert np.abs(scores - inputs[:, 1]).mean() < 0.05  # the chance that made the data


@pytest.mark.parametrize("well", [True, False])
def test_weights_stay_finite_if_all_or_no_samples_may_leave(well: bool) -> None:
    _, inputs, _ = drawn(4)
    weights = fit_gate(inputs, np.full(len(inputs), well))
    assert np.isfinite(weights).all()
    assert max(map(abs, weights)) < 20
    assert ((inputs @ weights > 0) == well).all()
