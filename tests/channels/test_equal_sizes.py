"""Channels that are as many as windows, heads, tokens or pixels are told apart all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.channels import find_groups, remove_channels
from edgewright.exporters import prove_export
from edgewright.program import Program


class Windows(nn.Module):
    """Attention in windows, or in a grid across them, with a relative bias (MaxViT)."""

    places: Tensor

    def __init__(self, width: Any, side: Any, heads: Any, grid: Any) -> None:
        super().__init__()
        self.side, self.heads, self.grid = side, heads, grid
        self.stem, self.norm = nn.Conv2d(3, width, 1), nn.LayerNorm(width)
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * side - 1) ** 2, heads))
        self.register_buffer("places", torch.randint(0, (2 * side - 1) ** 2, (side ** 4,)))
        self.head = nn.Conv2d(width, 5, 1)

    def attend(self, x: Any) -> Any:
        count, length, _ = x.shape
        q, k, v = (layer(x).view(count, length, self.heads, -1).transpose(1, 2)
                   for layer in (self.q, self.k, self.v))
        bias = self.table[self.places].view(length, length, -1).permute(2, 0, 1)[None].contiguous()
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out(x.transpose(1, 2).reshape(count, length, -1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        count, height, width, channels = x.shape
        side = self.side
        rows, columns = height // side, width // side
        y = self.norm(x)
        if self.grid:
            y = y.view(count, side, rows, side, columns, channels).permute(0, 2, 4, 1, 3, 5)
        else:
            y = y.view(count, rows, side, columns, side, channels).permute(0, 1, 3, 2, 4, 5)
        y = self.attend(y.contiguous().view(-1, side * side, channels))
        y = y.view(-1, rows, columns, side, side, channels)
        y = y.permute(0, 3, 1, 4, 2, 5) if self.grid else y.permute(0, 1, 3, 2, 4, 5)
        y = y.contiguous().view(-1, height, width, channels)
        return self.head((x + y).permute(0, 3, 1, 2)).mean((2, 3))


class Heads(nn.Module):
    """Attention whose result is viewed, which its layout allows only while all is as wide."""

    def __init__(self, width: Any, heads: Any) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.embed, self.q, self.k = (nn.Linear(inputs, width) for inputs in (6, width, width))
        self.v, self.out, self.head = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(
            width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        count, length, _ = x.shape
        q, k, v = (layer(x).view(count, length, self.heads, -1).transpose(1, 2)
                   for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).view(count, length, -1)
        return self.head((x + self.out(y)).mean(1))


class Shuffled(nn.Module):
    """Grouped convolutions with a channel shuffle by view between them (ShuffleNet)."""

    def __init__(self, width: Any, groups: Any) -> None:
        super().__init__()
        self.groups = groups
        self.a, self.b = nn.Conv2d(3, width, 1), nn.Conv2d(width, width, 1, groups=groups)
        self.c, self.d = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu()).relu()
        count, width, rows, columns = x.shape
        x = x.view(count, self.groups, width // self.groups, rows, columns).transpose(1, 2)
        return self.d(self.c(x.reshape(count, -1, rows, columns)).relu()).mean((2, 3))


class SpaceToDepth(nn.Module):
    """Pixels become channels, by view and permute."""

    def __init__(self, width: Any, by: Any) -> None:
        super().__init__()
        self.by = by
        self.a, self.b = nn.Conv2d(3, width, 1), nn.Conv2d(width * by * by, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, by = self.a(x).relu(), self.by
        count, width, rows, columns = x.shape
        x = x.view(count, width, rows // by, by, columns // by, by).permute(0, 3, 5, 1, 2, 4)
        return self.b(x.reshape(count, -1, rows // by, columns // by)).mean((2, 3))


class Mixer(nn.Module):
    """Layers across tokens and across channels (MLP-Mixer)."""

    def __init__(self, width: Any, length: Any) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, width), nn.Linear(width, 5)
        self.a, self.b = nn.Linear(length, width), nn.Linear(width, length)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.b(self.a(x.transpose(1, 2)).relu()).transpose(1, 2)).mean(1))


def images(side: Any) -> Any:
    return torch.randn(2, 3, side, side)


def tokens(length: Any) -> Any:
    return torch.randn(2, length, 6)


NETS = {
    "windows of 16 channels, 16 places, 16 windows": lambda: (Windows(16, 4, 4, False), images(16)),
    "a grid of 16 channels, 16 places, 16 windows": lambda: (Windows(16, 4, 4, True), images(16)),
    "windows of 64, 8 heads of 8": lambda: (Windows(64, 8, 8, False), images(64)),
    "as many heads as windows": lambda: (Windows(16, 4, 16, False), images(16)),
    "4 heads of 4, 4 tokens": lambda: (Heads(16, 4), tokens(4)),
    "4 heads of 4, 16 tokens": lambda: (Heads(16, 4), tokens(16)),
    "4 groups of 4, 4 rows": lambda: (Shuffled(16, 4), images(4)),
    "8 groups of 8, 8 rows": lambda: (Shuffled(64, 8), images(8)),
    "4 channels, 4 pixels, 4 rows": lambda: (SpaceToDepth(4, 2), images(4)),
    "16 channels, 16 pixels, 16 rows": lambda: (SpaceToDepth(16, 4), images(16)),
    "8 channels, 8 tokens": lambda: (Mixer(8, 8), tokens(8)),
    "64 channels, 64 tokens": lambda: (Mixer(64, 64), tokens(64)),
}
EXPORTED = ("windows of 16 channels, 16 places, 16 windows", "4 heads of 4, 4 tokens",
            "4 groups of 4, 4 rows", "4 channels, 4 pixels, 4 rows", "8 channels, 8 tokens")


def captured(name: str) -> Any:
    torch.manual_seed(0)
    model, example = NETS[name]()
    return Program.capture(model, example)


@pytest.mark.parametrize("name", NETS)
def test_what_is_left_runs_for_every_batch_as_for_one_sample(name: Any,
                                                             choose: Callable[..., list[int]]) -> None:
    program = captured(name)
    groups = find_groups(program)
    assert groups.groups
    for seed, share in ((0, 0.5), (1, 0.3), (2, 0.7)):  # masked = sliced is proved on the way
        sliced = remove_channels(program, groups, choose(groups, seed, share))
        example, = sliced.example_inputs
        samples = torch.randn(5, *example.shape[1:])
        want = torch.cat([sliced.run(sample[None]) for sample in samples])
        torch.testing.assert_close(sliced.run(samples), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EXPORTED)
def test_what_is_left_runs_alike_on_onnx_runtime(name: str,
                                                 choose: Callable[..., list[int]]) -> None:
    program = captured(name)
    groups = find_groups(program)
    assert prove_export(remove_channels(program, groups, choose(groups))) <= 1e-4


def test_attention_with_a_computed_bias_exports_whole() -> None:
    """Whether a bias needs a gradient decides which kernel, and so which layout, torch takes."""
    assert prove_export(captured("windows of 16 channels, 16 places, 16 windows")) <= 1e-4


def test_queries_and_values_of_different_width_are_viewed() -> None:
    """Fused attention puts them elsewhere in memory, so that a view no longer fits."""
    program = captured("4 heads of 4, 4 tokens")
    groups = find_groups(program)
    narrow = [group for group in groups.groups if group.name.startswith("v.weight by")]
    assert len(narrow) == 1
    sliced = remove_channels(program, groups, narrow[0].channels[:1])
    assert sliced.run(torch.randn(3, 4, 6)).shape == (3, 5)
