"""Temperatures and calibration errors, against slow loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.exits._temperature import expected_calibration_error, fit_temperature
from edgewright.runtime import confidence


def slow_loss(logits: Any, targets: Any, temperature: Any) -> Any:
    total = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        scaled = [value / temperature for value in row]
        top = max(scaled)
        total += top + math.log(sum(math.exp(value - top) for value in scaled)) - scaled[target]
    return total / len(targets)


def slow_error(logits: Any, targets: Any, temperature: Any, bins: Any) -> Any:
    sure = confidence(logits, temperature).tolist()
    right = (logits.argmax(axis=1) == targets).tolist()
    error = 0.0
    for index in range(bins):
        inside = [i for i, value in enumerate(sure) if index / bins < value <= (index + 1) / bins]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            mean = sum(sure[i] for i in inside) / len(inside)
            error += len(inside) / len(sure) * abs(accuracy - mean)
    return error


def drawn(seed: int, count: int = 300, scale: float = 1.0, classes: int = 4) -> tuple[Any, ...]:
    """Logits that are calibrated once divided by the scale."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (chances.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return (logits * scale).astype(np.float32), targets


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_scale(scale: float) -> None:
    logits, targets = drawn(0, count=20_000, scale=scale)
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(scale, rel=0.05)
    before, after = (expected_calibration_error(logits, targets, t) for t in (1.0, found))
    assert after < 0.015
    assert after < before or scale == 1.0


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0, 4.0]))
def test_no_other_temperature_has_higher_likelihood(seed: Any, scale: Any) -> None:
    logits, targets = drawn(seed, count=60, scale=scale)
    found = fit_temperature(logits, targets)
    least = slow_loss(logits, targets, found)
    for other in np.exp(np.linspace(math.log(0.1), math.log(10), 60)):
        assert least <= slow_loss(logits, targets, other) + 1e-6


def test_an_always_correct_exit_keeps_its_probabilities() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]] * 0.1
    assert fit_temperature(logits, np.array([0, 1, 2, 0])) == 1.0


def test_a_random_exit_gets_the_maximum_temperature() -> None:
    logits, targets = np.eye(2)[[0, 0, 1, 1]] * 9, np.array([1, 0, 1, 0])
    assert fit_temperature(logits, targets) == pytest.approx(10, rel=0.01)
    assert fit_temperature(np.eye(2)[[0, 1]], np.array([1, 0])) == pytest.approx(10, rel=0.01)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 20),
       st.sampled_from([0.3, 1.0, 2.5]))
def test_the_calibration_error_matches_the_papers_equation(seed: Any, count: Any, bins: Any,
                                                           temperature: Any) -> None:
    logits, targets = drawn(seed, count=count)
    found = expected_calibration_error(logits, targets, temperature, bins)
    assert found == pytest.approx(slow_error(logits, targets, temperature, bins))
    assert 0 <= found <= 1


def test_confidence_one_is_in_the_last_bin() -> None:
    logits = np.array([[1000.0, 0.0]] * 4)
    assert expected_calibration_error(logits, np.array([0, 0, 0, 1])) == pytest.approx(0.25)
    assert expected_calibration_error(logits, np.array([0, 0, 0, 0])) == 0.0
