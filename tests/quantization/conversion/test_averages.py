"""Integer averages round exact sums in the same way as the kernels, including halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.graph import finalize_graph
from edgewright.program import Program
from edgewright.quantization.conversion import _averages

quantized = torch.ops.quantized_decomposed
GRID = 0.0372931, -11, -128, 127, torch.int8
functional = nn.functional


class Averages(nn.Module):
    def __init__(self, average: Any, result: Any = GRID) -> None:
        super().__init__()
        self.average = average
        self.result = result

    def forward(self, x: Tensor) -> Tensor:
        x = quantized.quantize_per_tensor.default(x, *GRID)
        x = quantized.dequantize_per_tensor.default(x, *GRID)
        x = self.average(x)
        x = quantized.quantize_per_tensor.default(x, *self.result)
        return quantized.dequantize_per_tensor.default(x, *self.result)


@pytest.fixture(scope="module")
def x() -> Any:
    return torch.randn(400, 8, 4, 4, generator=torch.Generator().manual_seed(0)) * 2


def converted(average: Any, x: Any, pools: Any = None, result: Any = GRID) -> tuple[Any, ...]:
    """The averages before and after the rewrite, and what they average, as integers."""
    module = Program.capture(Averages(average, result), x[:1]).graph_module
    plain = module(x)
    _averages.lower_averages_to_integers(module, pools)
    finalize_graph(module)
    to_integers = torch.round(torch.stack([plain, module(x)]).double() / result[0]) + result[1]
    return *to_integers, quantized.quantize_per_tensor.default(x, *GRID).double()


def away(x: Any) -> Any:
    return x.sign() * torch.floor(x.abs() + 0.5)


@pytest.mark.parametrize("pools", [None, "away", "even"])
@pytest.mark.parametrize("mean", [
    lambda x: functional.adaptive_avg_pool2d(x, 1), lambda x: x.mean((2, 3), keepdim=True)])
def test_means_are_exact_with_halves_rounded_to_even(mean: Callable[..., Any], pools: str | None,
                                                     x: Any) -> None:
    plain, have, integers = converted(mean, x, pools)
    sums = integers.sum((2, 3), keepdim=True)
    assert (sums % 16 == 8).sum() > 100
    assert torch.equal(have, torch.round(sums / 16))
    assert not torch.equal(have, plain)


POOLS = {
    "2": (lambda x: functional.avg_pool2d(x, 2), [0, 0]),
    "3 by 2": (lambda x: functional.avg_pool2d(x, 3, 1), [0, 0]),
    "adaptive": (lambda x: functional.adaptive_avg_pool2d(x, 2), [0, 0]),
    "padded": (lambda x: functional.avg_pool2d(x, 2, 2, padding=1), [1, 1]),
    "an even ceiling": (lambda x: functional.avg_pool2d(x, 2, ceil_mode=True), [0, 0])}


@pytest.mark.parametrize("pool", POOLS)
def test_away_pool_rounding_rounds_halves_away_from_zero(pool: Any, x: Any) -> None:
    average, (rows, columns) = POOLS[pool]
    _, have, integers = converted(average, x, "away")
    padded = functional.pad(integers, (columns, columns, rows, rows), value=GRID[1])
    size = 3 if pool == "3 by 2" else 2
    want = functional.avg_pool2d(padded, size, 1 if size == 3 else 2)
    assert (want % 1 == 0.5).any() == (size == 2)
    assert torch.equal(have, away(want))


@pytest.mark.parametrize("pool", POOLS)
def test_even_pool_rounding_rounds_halves_to_even(pool: Any, x: Any) -> None:
    average, _ = POOLS[pool]
    _, have, integers = converted(average, x, "even")
    want = average(integers - GRID[1])
    assert torch.equal(have, torch.round(want) + GRID[1])


@pytest.mark.parametrize("pools", ["away", "even"])
def test_padding_is_excluded_from_averages_on_request(pools: str, x: Any) -> Any:
    def average(x: Any) -> Any:
        return functional.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)

    _, have, integers = converted(average, x, pools)
    want = away(average(integers)) if pools == "away" else (
        torch.round(average(integers - GRID[1])) + GRID[1])
    assert torch.equal(have, want)


def test_only_exact_halves_change_their_rounding() -> None:
    """Every sum of bytes there is in windows of 4 and of 64."""
    for size in (2, 8):
        count = size * size
        sums = torch.arange(-128 * count, 127 * count + 1)
        parts = sums // count + (torch.arange(count)[:, None] < sums % count)
        image = ((parts.T.reshape(-1, 1, size, size) - GRID[1]) * GRID[0]).float()
        _, have, integers = converted(lambda x, size=size: functional.avg_pool2d(x, size), image,
                                      "away")
        assert torch.equal(integers.sum((1, 2, 3)), sums.double())
        assert torch.equal(have.flatten(), away(sums / count))


@pytest.mark.parametrize("average", [
    lambda x: functional.avg_pool2d(x, 3, 2, ceil_mode=True),
    lambda x: functional.avg_pool2d(x, 2, divisor_override=3),
    lambda x: functional.adaptive_avg_pool2d(x, 3)])
def test_windows_beyond_the_image_are_unchanged(average: Callable[..., Any], x: Any) -> None:
    plain, have, _ = converted(average, x, "away")
    assert torch.equal(have, plain)


def test_averages_with_different_grids_are_unchanged(x: Any) -> None:
    for average in (lambda x: functional.adaptive_avg_pool2d(x, 1),
                    lambda x: functional.avg_pool2d(x, 2)):
        plain, have, _ = converted(average, x, "away", result=(0.01, *GRID[1:]))
        assert torch.equal(have, plain)


def test_pools_are_unchanged_without_pool_rounding(x: Any) -> None:
    plain, have, _ = converted(POOLS["2"][0], x)
    assert torch.equal(have, plain)
