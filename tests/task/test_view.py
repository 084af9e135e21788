from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgewright.task import View

MASK = 2**64 - 1


def mixed(value: Any) -> Any:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def by_hand(number: Any, row: Any, count: int) -> Any:
    """SplitMix64 in Python's integers."""
    state = mixed(row ^ mixed((number + 0x9E3779B97F4A7C15) & MASK))
    found = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        found.append((mixed(state) >> 11) / 2**53)
    return found


def test_the_finalizer_matches_splitmix64() -> None:
    state, published = 1234567, [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [mixed((state + (i + 1) * 0x9E3779B97F4A7C15) & MASK) for i in range(3)] == published


@given(number=st.integers(-2**63, 2**64), row=st.integers(0, 2**40), count=st.integers(1, 5))
def test_random_uniform_matches_the_sequential_generator(number: Any, row: Any, count: Any) -> None:
    assert View(number).random_uniform(np.array([row]), count)[0].tolist() == by_hand(number & MASK, row, count)


@pytest.mark.parametrize("axis", ["rows", "views", "positions"])
def test_random_uniform_is_uniform_and_uncorrelated(axis: str) -> None:
    if axis == "rows":
        drawn = View(5).random_uniform(np.arange(20_000), 1)[:, 0]
    elif axis == "views":
        drawn = np.array([View(number).random_uniform(np.array([3]), 1)[0, 0] for number in range(20_000)])
    else:
        drawn = View(5).random_uniform(np.array([3]), 20_000)[0]
    assert stats.kstest(drawn, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03
