"""The energy model against the published figures, added up by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import UsageError
from edgewright.measure import ENERGY_MODEL, energy_mj

counts = st.integers(0, 10**12)


def test_the_published_figures() -> None:
    assert ENERGY_MODEL == "Horowitz 2014, 45 nm"
    assert energy_mj({32: 10**9}, 0) == pytest.approx(4.6)     # 3.7 pJ + 0.9 pJ
    assert energy_mj({8: 10**9}, 0) == pytest.approx(0.3)     # 0.2 pJ + 0.1 pJ
    assert energy_mj({}, 8 * 10**9) == pytest.approx(20)       # 20 pJ for 64 bits


@given(a=counts, b=counts, moved=counts)
def test_energy_adds_up(a: Any, b: Any, moved: Any) -> None:
    together = energy_mj({32: a, 8: b}, moved)
    assert together == pytest.approx(energy_mj({32: a}, 0) + energy_mj({8: b}, moved))
    assert together >= 0


def test_unknown_bits_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"no figure for \[4, 16\] bits.*\[8, 32\]"):
        energy_mj({16: 1, 4: 1, 8: 1}, 0)


@pytest.mark.parametrize(("macs", "moved"), [({8: -1}, 0), ({8: 1}, -1)])
def test_negative_counts_are_refused(macs: dict[int, int], moved: int) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        energy_mj(macs, moved)
