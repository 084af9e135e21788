from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewright.quantization import MSE
from edgewright.quantization.calibration import make_observer
from edgewright.quantization.scheme import Grid
from edgewright.quantization.simulation import FakeQuantizer

SHARES = [step / 16 for step in range(1, 17)]
GRIDS = {f"{bits} bits, {'symmetric' if symmetric else 'affine'}{', power of two' * power}":
         Grid(bits, signed=bits == 1, symmetric=symmetric, power_of_two=power,
              role="weight" if bits == 1 else "activation")
         for bits in (8, 4, 2, 1) for symmetric in (False, True) for power in (False, True)
         if symmetric or bits > 1}


def samples(kind: str) -> Tensor:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    return {"normal": x, "rectified": x.relu(), "tail": x.sign() * x.abs().exp(),
            "shifted": x - 1.5, "negative": -x.abs()}[kind]


def error(x: Tensor, low: Tensor, high: Tensor, grid: Grid) -> float:
    quantizer = FakeQuantizer(dataclasses.replace(grid, axis=None))
    quantizer.set_range(low, high)
    quantizer.mode = "quantize"
    with torch.no_grad():
        return float((quantizer(x) - x).double().square().sum())


def reference(x: Tensor, grid: Grid) -> float:
    """The least error of every pair of limits from a list, on all values."""
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    pairs = (zip(SHARES, SHARES, strict=True) if grid.symmetric or not low < 0 < high
             else itertools.product(SHARES, SHARES))
    return min(error(x, low * below, high * above, grid) for below, above in pairs)


@pytest.mark.parametrize("kind", ["rectified", "tail", "shifted", "negative"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_no_range_is_much_better(kind: str, grid: Any) -> None:
    x = samples(kind)
    best = reference(x, grid)
    for axis, role in ((None, grid.role), (0, "weight")):
        observer = make_observer(MSE(),
                                 dataclasses.replace(grid, axis=axis, role=role))
        observer.update(x if axis is None else x[None])
        low, high = (side.reshape(()) for side in observer.range())
        assert error(x, low, high, grid) <= 1.03 * best


def test_the_range_is_that_of_these_bits() -> None:
    x = samples("normal")
    highs = []
    for bits in (2, 4, 8):
        observer = make_observer(MSE(), Grid(bits, signed=True, symmetric=True,
                                                                  narrow=True, role="activation"))
        observer.update(x)
        highs.append(float(observer.range()[1]))
    assert highs[0] < 0.6 * highs[1] < 0.6 * highs[2]
    assert highs[0] == pytest.approx(1.22, abs=0.1)  # of a ternary normal variable


def test_groups_have_ranges_of_their_own() -> None:
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    x[0, 4:] *= 100
    grid = Grid(4, signed=True, symmetric=True, axis=0, group=4, role="weight")
    observer = make_observer(MSE(), grid)
    observer.update(x)
    low, high = observer.range()
    single = make_observer(MSE(), dataclasses.replace(grid, group=None))
    single.update(x.reshape(4, 4))
    assert torch.equal(low.flatten(), single.range()[0])
    assert torch.equal(high.flatten(), single.range()[1])
