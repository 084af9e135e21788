from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.quantization.calibration._histogram import BINS, Histogram

numbers = st.builds(lambda mantissa, exponent: mantissa * 2.0**exponent,
                    st.integers(-2**24, 2**24), st.integers(-60, 40))
batches = st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=5)


def reference(values: list[float], width: float) -> np.ndarray:
    """Counts of all values at once, at the final width."""
    counts = np.zeros(2 * BINS, dtype=np.int64)
    for value in values:
        counts[int(np.floor(np.float64(np.float32(value)) / width)) + BINS] += 1
    return counts


@settings(max_examples=50, deadline=None)
@given(batches)
def test_counts_are_those_of_all_numbers_at_once(stream: Any) -> None:
    histogram = Histogram()
    for batch in stream:
        histogram.update(torch.tensor(batch))
    everything = [value for batch in stream for value in batch]
    np.testing.assert_array_equal(histogram.counts.numpy(),
                                  reference(everything, histogram.width))
    assert [float(value) for value in histogram.extremes()] == [min(everything), max(everything)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 2**24).map(float), min_size=1, max_size=5))
def test_width_is_the_smallest_that_fits_all_values(values: Any) -> None:
    histogram = Histogram()
    histogram.update(torch.tensor(values))
    assert max(values) < histogram.width * BINS <= 2 * max(values)


def test_bin_centers_approximate_their_values() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    histogram = Histogram()
    histogram.update(x)
    centers, counts = histogram.points()
    assert counts.sum() == 5000
    stand_ins = centers.repeat_interleave(counts)
    assert (stand_ins - x.sort().values).abs().max() <= histogram.width / 2
    assert centers.min() >= x.min()
    assert centers.max() <= x.max()


def test_memory_does_not_grow() -> None:
    histogram = Histogram()
    for size in (1.0, 1e-3, 1e6):
        histogram.update(size * torch.randn(10_000))
        held = [value for value in vars(histogram).values() if isinstance(value, torch.Tensor)]
        assert [tensor.shape for tensor in held] == [(2 * BINS,)]
    assert histogram.counts.sum() == 30_000
