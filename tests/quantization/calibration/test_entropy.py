from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewright.quantization import Entropy
from edgewright.quantization.calibration import make_observer
from edgewright.quantization.scheme import Grid

SIDE = 2048  # bins on each side of zero
SMOOTHING = 1e-4


def found(x: Tensor, grid: Grid) -> tuple[float, float]:
    observer = make_observer(Entropy(), grid)
    observer.update(x)
    low, high = observer.range()
    return float(low), float(high)


def divergence(counts: list[int], start: int, stop: int, levels: int) -> float:
    """As it is told in the source, with lists."""
    inside = counts[start:stop]
    p = [float(count) for count in inside]
    p[0] += sum(counts[:start])
    p[-1] += sum(counts[stop:])
    q = [0.0] * len(inside)
    for level in range(levels):
        bins = [i for i in range(len(inside)) if i * levels // len(inside) == level]
        filled = [i for i in bins if inside[i]]
        for i in filled:
            q[i] = sum(inside[j] for j in bins) / len(filled)
    if sum(q) == 0:
        return math.inf
    q = [(1 - SMOOTHING) * share / sum(q) + SMOOTHING / len(q) for share in q]
    return sum(share / sum(p) * math.log(share / sum(p) / other)
               for share, other in zip(p, q, strict=True) if share)


def histogram(values: list[float], width: float) -> list[int]:
    counts = [0] * (2 * SIDE)
    for value in values:
        counts[math.floor(value / width) + SIDE] += 1
    counts[SIDE] = counts[SIDE + 1]
    return counts


@pytest.mark.parametrize(("kind", "grid"), [
    ("rectified", Grid(4, signed=False, symmetric=False, role="activation")),
    ("normal", Grid(4, signed=False, symmetric=False, role="activation")),
    ("normal", Grid(4, signed=True, symmetric=True, narrow=True, role="activation")),
])
def test_no_limit_diverges_less(kind: str, grid: Any) -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    x = x.sign() * x.abs().exp() * (x > -2)
    x = x.relu() if kind == "rectified" else x
    low, high = found(x, grid)
    width = 2.0**math.ceil(math.log2(float(x.abs().max()))) / SIDE
    counts = histogram(x.tolist(), width)
    below, above = (math.ceil(max(0.0, end) / width) for end in (-float(x.min()), float(x.max())))
    levels = grid.steps + 1

    def part(limit: int) -> tuple[int, int]:
        if grid.symmetric:
            return SIDE - limit, SIDE + limit
        return SIDE - min(limit, below), SIDE + min(limit, above)

    chosen = max(math.ceil(-low / width), math.ceil(high / width))
    tried = [max(below, above) - 8 * step for step in range(0, 200, 20)]
    best = min(divergence(counts, *part(limit), levels)
               for limit in tried if limit > levels)
    assert divergence(counts, *part(chosen), levels) <= best * (1 + 1e-9)


def test_a_long_tail_is_clipped_and_a_flat_top_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = Grid(8, signed=False, symmetric=False, role="activation")
    tail = torch.randn(100_000, generator=generator).exp()
    assert found(tail, grid)[1] < 0.7 * tail.max()
    flat = torch.rand(100_000, generator=generator)
    assert found(flat, grid)[1] > 0.95


def test_the_zeros_of_a_rectifier_do_not_decide() -> None:
    x = torch.randn(50_000, generator=torch.Generator().manual_seed(0)).abs()
    grid = Grid(8, signed=False, symmetric=False, role="activation")
    assert found(torch.cat([x, torch.zeros(500_000)]), grid) == found(x, grid)


def test_weights_keep_their_extremes() -> None:
    x = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    observer = make_observer(Entropy(), Grid(8, True, True, axis=0, role="weight"))
    observer.update(x)
    assert torch.equal(observer.range()[1], x.amax(1))
