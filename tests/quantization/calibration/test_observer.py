"""What every observer must do, whatever range it looks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewright.errors import DataError, UsageError
from edgewright.quantization import MSE, Entropy, MinMax, Observer, Percentile, RangeEstimator
from edgewright.quantization.calibration import make_observer
from edgewright.quantization.scheme import Grid
from edgewright.quantization.simulation import FakeQuantizer


@dataclass(frozen=True)
class Mine:
    """An estimator of a user's own: weights keep their extremes, activations are clipped."""

    percent: float = 99.0

    def observer(self, grid: Grid) -> Observer:
        if grid.role == "weight":
            return MinMax().observer(grid)
        return Percentile(self.percent).observer(grid)


ESTIMATORS = {"minmax": MinMax(), "percentile": Percentile(), "mse": MSE(), "entropy": Entropy(),
              "a user's own": Mine()}
GRIDS = {
    "activation": Grid(8, signed=False, symmetric=False, role="activation"),
    "activation, symmetric": Grid(8, signed=False, symmetric=True, role="activation"),
    "activation, 2 bits": Grid(2, signed=False, symmetric=False, role="activation"),
    "activation, power of two": Grid(8, signed=False, symmetric=False, power_of_two=True,
                                     role="activation"),
    "weight": Grid(8, signed=True, symmetric=True, narrow=True, role="weight"),
    "channels": Grid(8, signed=True, symmetric=True, axis=0, narrow=True, role="weight"),
    "channels, affine": Grid(4, signed=True, symmetric=False, axis=0, role="weight"),
    "channels, 1 bit": Grid(1, signed=True, symmetric=True, axis=0, role="weight"),
    "second axis": Grid(8, signed=True, symmetric=True, axis=1, narrow=True, role="weight"),
    "groups": Grid(4, signed=True, symmetric=True, axis=0, group=4, narrow=True, role="weight"),
}


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def with_outlier() -> Tensor:
    x = noise(4, 8)
    x[1, 2] = 1e30
    return x


VALUES = {
    "constant": torch.full((4, 8), 3.0),
    "tiny constant": torch.full((4, 8), -1e-40),
    "zeros": torch.zeros(4, 8),
    "zeros but for one": torch.eye(4, 8) * torch.tensor([0.0, 0.0, 0.0, 1.0])[:, None],
    "negative": -noise(4, 8).abs() - 1,
    "positive": noise(4, 8).abs() + 1,
    "outlier": with_outlier(),
    "largest": torch.full((4, 8), torch.finfo(torch.float32).max),
    "half": noise(4, 8).half(),
    "bfloat16": noise(4, 8).bfloat16(),
    "double": noise(4, 8).double(),
    "not contiguous": noise(8, 8).t()[::2],
    "channels last": noise(4, 8, 2, 4).to(memory_format=torch.channels_last),
    "needs a gradient": noise(4, 8).requires_grad_(),
}

every_rule = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def found(x: Tensor, estimator: RangeEstimator, grid: Grid) -> tuple[Tensor, Tensor]:
    observer = make_observer(estimator, grid)
    observer.update(x)
    return observer.range()


@every_rule
def test_every_estimator_is_one(estimator: Any) -> None:
    assert isinstance(estimator, RangeEstimator)


@every_rule
@every_grid
@pytest.mark.parametrize("x", VALUES.values(), ids=VALUES)
def test_a_range_is_finite_and_contains_zero(x: Any, estimator: Any, grid: Any) -> None:
    low, high = found(x, estimator, grid)
    shape = () if grid.axis is None else (x.shape[grid.axis],)
    if grid.group is not None:
        shape = (*x.shape[:-1], x.shape[-1] // grid.group)
    assert low.shape == high.shape == shape
    assert low.dtype == high.dtype == torch.float32
    assert torch.isfinite(torch.stack([low, high])).all()
    assert (low <= 0).all()
    assert (high >= 0).all()
    assert not low.requires_grad
    assert (low >= x.float().min().clamp(max=0)).all()
    assert (high <= x.float().max().clamp(min=0)).all()
    rows = x.detach().float()
    if grid.group is not None:
        rows = rows.reshape(*shape, -1)
    elif grid.axis is None:
        rows = rows.reshape(1, -1)
    else:
        rows = rows.movedim(grid.axis, 0).flatten(1)
    empty = (rows == 0).all(-1).reshape(shape)
    assert torch.equal(low < high, ~empty)


@every_rule
@every_grid
def test_a_quantiser_has_a_positive_scale_even_for_zeros(estimator: Any, grid: Any) -> None:
    low, high = found(torch.zeros(4, 8), estimator, grid)
    quantizer = FakeQuantizer(grid, tuple(low.shape))
    quantizer.set_range(low, high)
    assert (quantizer.scale > 0).all()
    quantizer.mode = "quantize"
    if grid.bits > 1:
        assert torch.equal(quantizer(torch.zeros(4, 8)), torch.zeros(4, 8))


@every_rule
def test_one_number_is_its_own_range(estimator: Any) -> None:
    for grid in (GRIDS["activation"], GRIDS["activation, symmetric"]):
        for x in (torch.tensor(5.0), torch.tensor([5.0])):
            low, high = found(x, estimator, grid)
            assert low == 0
            assert high == pytest.approx(5.0, rel=0.02)


@every_rule
@every_grid
def test_an_empty_tensor_adds_nothing(estimator: Any, grid: Any) -> None:
    observer = make_observer(estimator, grid)
    observer.update(torch.zeros(0, 8))
    with pytest.raises(DataError, match=r"no number was seen.*show calibration data"):
        observer.range()
    observer.update(noise(4, 8))
    observer.update(torch.zeros(0, 8))
    assert all(map(torch.equal, observer.range(), found(noise(4, 8), estimator, grid)))


@every_rule
@every_grid
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(estimator: Any, grid: Any, wrong: Any) -> None:
    x = noise(4, 8)
    x[2, 3] = x[0, 0] = wrong
    observer = make_observer(estimator, grid)
    with pytest.raises(DataError, match=r"2 of 32 numbers are NaN or infinite.*remove"):
        observer.update(x)


@every_rule
@pytest.mark.parametrize("signed", [False, True])
def test_a_binary_activation_has_two_levels(estimator: Any, signed: bool) -> None:
    grid = Grid(1, signed, symmetric=True, role="activation")
    low, high = found(torch.tensor([1.0, 1.0, 3.0, 3.0]), estimator, grid)
    assert (low.item(), high.item()) == (1, 3)


@every_rule
def test_a_weight_with_one_scale_is_looked_at_as_one_with_a_row(estimator: Any) -> None:
    """It is no stream of activations: entropy does not clip it, and no histogram blurs it."""
    x = noise(40, 8).exp()
    row = found(x.reshape(1, -1), estimator, GRIDS["channels"])
    assert [float(side) for side in found(x, estimator, GRIDS["weight"])] == [*map(float, row)]


def test_groups_have_to_divide_the_inputs() -> None:
    with pytest.raises(UsageError, match=r"groups of 4 do not divide the 6 inputs.*\(2, 6\)"):
        found(torch.ones(2, 6), MSE(), GRIDS["groups"])


@every_rule
@pytest.mark.parametrize("name", ["activation", "activation, symmetric", "activation, 2 bits"])
def test_batches_and_their_order_leave_no_trace(estimator: Any, name: str) -> None:
    x = noise(999) * 10
    observer = make_observer(estimator, GRIDS[name])
    for part in x.sort(descending=True).values.split(100):
        observer.update(part)
    assert all(map(torch.equal, observer.range(), found(x, estimator, GRIDS[name])))


@every_rule
@every_grid
def test_a_weight_may_be_shown_again(estimator: Any, grid: Any) -> None:
    observer = make_observer(estimator, grid)
    for _ in range(3):
        observer.update(noise(4, 8))
    assert all(map(torch.equal, observer.range(), found(noise(4, 8), estimator, grid)))


@every_rule
@pytest.mark.parametrize("name", ["channels", "channels, affine", "channels, 1 bit"])
def test_a_channel_is_as_it_would_be_alone(estimator: Any, name: str) -> None:
    """Rows do not see each other, whatever their sizes."""
    x = noise(3, 40) * torch.tensor([[1.0], [1e-3], [1e4]])
    low, high = found(x, estimator, GRIDS[name])
    for row in range(3):
        alone = found(x[row:row + 1], estimator, GRIDS[name])
        assert torch.allclose(torch.stack([low[row:row + 1], high[row:row + 1]]),
                              torch.stack(alone), rtol=1e-5)
