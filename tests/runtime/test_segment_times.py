"""What a segment is expected to take: pessimistic, by batch size, and never wrong for ever."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.errors import UsageError
from edgewright.runtime._segment_times import SegmentTimes


def _reference(times: list[float]) -> float:
    """Mean and spread by their definition: each run weighs as the later ones left it."""
    weights = np.array([max(0.1, 1 / (place + 1)) for place in range(len(times))])
    left = np.array([weight * np.prod(1 - weights[place + 1:])
                     for place, weight in enumerate(weights)])
    mean = left @ times
    return mean + 2 * np.sqrt(left @ (np.array(times) - mean) ** 2)


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30))
def test_it_is_the_weighted_mean_and_two_deviations(times: Any) -> None:
    known = SegmentTimes(1)
    for ms in times:
        known.add(0, samples=4, ms=ms)
    assert known.expect(0, samples=4) == pytest.approx(_reference(times), rel=1e-6)


def test_few_runs_in_twenty_take_longer_than_expected() -> None:
    rng = np.random.default_rng(0)
    known, longer = SegmentTimes(1), 0
    known.add(0, 1, 10.0)
    for ms in rng.normal(10, 1, 2000):
        expected = known.expect(0, 1)
        longer += ms > expected
        known.add(0, 1, ms)
    assert longer / 2000 < 0.07
    expected = known.expect(0, 1)
    assert expected is not None
    assert expected < 14


def test_a_power_not_seen_goes_by_the_nearest_in_proportion() -> None:
    known = SegmentTimes(1)
    known.add(0, samples=2, ms=2.0)
    known.add(0, samples=64, ms=32.0)
    assert known.expect(0, samples=4) == pytest.approx(4.0)     # from 2 samples
    assert known.expect(0, samples=32) == pytest.approx(16.0)   # from 64
    assert known.expect(0, samples=2) == pytest.approx(2.0)
    assert known.expect(0, samples=1) == pytest.approx(1.0)


def test_each_segment_has_its_own() -> None:
    known = SegmentTimes(2)
    known.add(1, samples=1, ms=5.0)
    assert known.expect(0, samples=1) is None
    assert known.expect(1, samples=1) == 5.0


def test_a_slow_spell_is_not_believed_for_ever() -> None:
    known = SegmentTimes(1)
    for _ in range(20):
        known.add(0, 1, 10.0)
    asked = [known.expect(0, 1) for _ in range(140)]
    assert asked[:100] == pytest.approx([10.0] * 100)
    assert asked[-1] is not None
    assert asked[-1] < 2.0
    known.add(0, 1, 3.0)   # tried again
    assert known.expect(0, 1) == pytest.approx(3.0)


def test_no_segments_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1, got 0"):
        SegmentTimes(0)
