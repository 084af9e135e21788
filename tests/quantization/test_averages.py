"""Means of integers round as the kernels do: the exact mean, halves to even."""

from __future__ import annotations

import torch
from torch import nn

from edgewright.program import Program
from edgewright.quantization import _averages

quantized = torch.ops.quantized_decomposed
GRID = 0.0372931, -11, -128, 127, torch.int8


class Pool(nn.Module):
    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, x):
        x = quantized.quantize_per_tensor.default(x, *GRID)
        x = quantized.dequantize_per_tensor.default(x, *GRID)
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        x = quantized.quantize_per_tensor.default(x, *self.result)
        return quantized.dequantize_per_tensor.default(x, *self.result)


def test_a_mean_is_the_exact_one_rounded_halves_to_even():
    x = torch.randn(400, 8, 4, 4, generator=torch.Generator().manual_seed(0)) * 2
    module = Program.capture(Pool(GRID), x[:1]).graph_module
    noisy = module(x)
    _averages.average_integers(module)
    module.recompile()
    integers = quantized.quantize_per_tensor.default(x, *GRID).to(torch.int64)
    sums = integers.sum((2, 3), keepdim=True)
    want = torch.round(sums.double() / 16)
    assert (sums % 16 == 8).sum() > 100
    have = torch.round(module(x).double() / GRID[0]) + GRID[1]
    assert torch.equal(have, want)
    assert not torch.equal(noisy, module(x))


def test_a_mean_on_another_grid_stays():
    x = torch.randn(4, 8, 4, 4)
    module = Program.capture(Pool((0.01, *GRID[1:])), x[:1]).graph_module
    want = module(x)
    _averages.average_integers(module)
    module.recompile()
    assert torch.equal(module(x), want)
