from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgewright.quantization import Percentile
from edgewright.quantization.calibration import create_observer
from edgewright.quantization.calibration._histogram import BINS
from edgewright.quantization.scheme import Grid

ACTIVATION = Grid(8, signed=False, symmetric=False, role="activation")
CHANNELS = Grid(8, signed=True, symmetric=True, axis=0, role="weight")


def found(x: Tensor, percentile: float, grid: Grid) -> tuple[Tensor, Tensor]:
    observer = create_observer(Percentile(percentile), grid)
    observer.update(x)
    return observer.range()


def reference(values: list[float], percentile: float) -> tuple[float, float]:
    """Sort all values and leave out so many at the ends."""
    values = sorted(values)
    share = len(values) * (100 - percentile) / 100
    cut = int(share / 2 + 1e-9) if values[0] < 0 < values[-1] else int(share + 1e-9)
    return min(values[cut], 0.0), max(values[-1 - cut], 0.0)


@pytest.mark.parametrize("percentile", [60, 90, 99, 99.9, 100])
@pytest.mark.parametrize("shape", ["both", "positive", "negative"])
def test_percentile_equals_the_sorted_values(percentile: float, shape: str) -> None:
    x = torch.randn(3, 1111, generator=torch.Generator().manual_seed(0))
    x = {"both": x + 0.3, "positive": x.abs() + 0.1, "negative": -x.abs() - 0.1}[shape]
    bin_width = 2 * float(x.abs().max()) / BINS
    low, high = found(x, percentile, ACTIVATION)
    wanted = reference(x.flatten().tolist(), percentile)
    assert (float(low), float(high)) == pytest.approx(wanted, abs=bin_width)
    assert low <= wanted[0]
    assert high >= wanted[1]
    low, high = found(x, percentile, CHANNELS)
    for row in range(3):
        assert (float(low[row]), float(high[row])) == reference(x[row].tolist(), percentile)


def test_outliers_are_excluded() -> None:
    x = torch.linspace(0, 1, 10_000)
    x[5000] = 40.0
    assert found(x, 99.9, ACTIVATION)[1] == pytest.approx(1, abs=0.02)
    assert found(x[None], 99.9, CHANNELS)[1] == pytest.approx(1, abs=0.002)


def test_mostly_zero_values_still_have_a_range() -> None:
    x = torch.zeros(1, 1000)
    x[0, 1] = 3.0
    assert found(x, 99, CHANNELS) == (torch.zeros(1), torch.tensor([3.0]))
