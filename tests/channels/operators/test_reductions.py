"""Norms, softmax, reductions and pools over the kept channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import nn

from edgewright.channels import ChannelGroups

IMAGE = torch.zeros(1, 3, 8, 8)
TOKENS = torch.zeros(1, 5, 4)


def conv(inputs: Any, outputs: Any, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def around(layer: Any) -> Callable[..., Any]:
    """A network with ``layer`` between two convolutions of eight channels."""
    return lambda: {"a": conv(3, 8), "t": layer(), "b": conv(8, 4)}


def through(m: Any, x: Any) -> Any:
    return m.b(m.t(m.a(x)))


def convs() -> dict[str, Any]:
    return {"a": conv(3, 8), "b": conv(8, 4)}


def linears(layer: Any = nn.Identity) -> Callable[..., Any]:
    return lambda: {"a": nn.Linear(4, 8), "t": layer(), "b": nn.Linear(8, 4)}


def _squeeze_excite(m: Any, x: Any) -> Any:
    y = m.a(x)
    return m.b(y * m.d(m.c(y.mean((2, 3), keepdim=True)).relu()).sigmoid())


def _context(m: Any, x: Any) -> Any:
    """A global context: softmax over places of one channel computed from all."""
    y = m.a(x)
    weights = m.c(y).flatten(2).softmax(-1)
    return m.b(y + (y.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1))


CASES = {
    "batch_norm": (through, around(lambda: nn.BatchNorm2d(8)), IMAGE, {"a.weight": 8}),
    "batch_norm_plain": (through, around(lambda: nn.BatchNorm2d(8, affine=False)), IMAGE,
                         {"a.weight": 8}),
    "instance_norm": (through, around(lambda: nn.InstanceNorm2d(8, affine=True)), IMAGE,
                      {"a.weight": 8}),
    "instance_norm_plain": (through, around(lambda: nn.InstanceNorm2d(8)), IMAGE,
                            {"a.weight": 8}),
    "group_norm_of_one": (through, around(lambda: nn.GroupNorm(1, 8)), IMAGE, {"a.weight": 8}),
    "group_norm_of_two": (through, around(lambda: nn.GroupNorm(2, 8)), IMAGE,
                          {"a.weight by 2": 4, "a.weight by 4": 2}),
    "group_norm_of_each": (through, around(lambda: nn.GroupNorm(8, 8)), IMAGE, {"a.weight": 8}),
    "layer_norm": (through, linears(lambda: nn.LayerNorm(8)), TOKENS, {"a.weight": 8}),
    "layer_norm_plain": (through, linears(lambda: nn.LayerNorm(8, elementwise_affine=False)),
                         TOKENS, {"a.weight": 8}),
    "layer_norm_of_two": (through, linears(lambda: nn.LayerNorm((5, 8))), TOKENS,
                          {"a.weight": 8}),
    "layer_norm_of_images": (through, around(lambda: nn.LayerNorm((8, 8, 8))), IMAGE,
                             {"a.weight": 8}),
    "layer_norm_channels_last": (
        lambda m, x: m.b(m.t(m.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        around(lambda: nn.LayerNorm(8)), IMAGE, {"a.weight": 8}),
    "rms_norm": (through, linears(lambda: nn.RMSNorm(8)), TOKENS, {"a.weight": 8}),
    "rms_norm_written_out": (
        lambda m, x: m.b(m.a(x) * (m.a(x).square().mean(-1, keepdim=True) + 1e-6).rsqrt() * m.g),
        lambda: {**linears()(), "g": nn.Parameter(torch.rand(8))}, TOKENS, {"a.weight": 8}),
    "local_response_norm": (through, around(lambda: nn.LocalResponseNorm(3)), IMAGE, {}),
    "normalize": (lambda m, x: m.b(F.normalize(m.a(x), dim=1)), convs, IMAGE, {"a.weight": 8}),
    "softmax": (lambda m, x: m.b(m.a(x).softmax(1)), convs, IMAGE, {"a.weight": 8}),
    "log_softmax": (lambda m, x: m.b(m.a(x).log_softmax(1)), convs, IMAGE, {"a.weight": 8}),
    "softmax_over_places": (lambda m, x: m.b(m.a(x).flatten(2).softmax(-1).view(-1, 8, 8, 8)),
                            convs, IMAGE, {"a.weight": 8}),
    "mean": (lambda m, x: m.b(m.a(x) - m.a(x).mean(1, keepdim=True)), convs, IMAGE,
             {"a.weight": 8}),
    "mean_of_all": (lambda m, x: m.b(m.a(x) - m.a(x).mean()), convs, IMAGE, {"a.weight": 8}),
    "sum": (lambda m, x: m.a(x).sum((1, 2, 3)), convs, IMAGE, {"a.weight": 8}),
    "max": (lambda m, x: m.b(m.a(x) - m.a(x).max(dim=1, keepdim=True).values), convs, IMAGE, {}),
    "amax": (lambda m, x: m.b(m.a(x) - m.a(x).amax(1, keepdim=True)), convs, IMAGE,
             {"a.weight": 8}),
    "variance": (lambda m, x: m.b(m.a(x) / (m.a(x).var(1, keepdim=True) + 1)), convs, IMAGE,
                 {"a.weight": 8}),
    "argmax": (lambda m, x: m.a(x).argmax(1) + m.b(m.a(x)).mean(1), convs, IMAGE, {"b.weight": 4}),
    "spatial_attention": (
        lambda m, x: m.b(m.a(x) * m.c(torch.cat([m.a(x).mean(1, keepdim=True),
                                                 m.a(x).amax(1, keepdim=True)], 1)).sigmoid()),
        lambda: {**convs(), "c": conv(2, 1)}, IMAGE, {"a.weight": 8}),
    "squeeze_excite": (_squeeze_excite, lambda: {
        **convs(), "c": nn.Conv2d(8, 6, 1), "d": nn.Conv2d(6, 8, 1)}, IMAGE,
        {"a.weight": 8, "c.weight": 6}),
    "efficient_channel_attention": (
        lambda m, x: m.b(m.a(x) * m.c(m.a(x).mean((2, 3)).unsqueeze(1)).sigmoid()
                         .transpose(1, 2).unsqueeze(-1)),
        lambda: {**convs(), "c": nn.Conv1d(1, 1, 3, padding=1)}, IMAGE, {}),
    "global_context": (_context, lambda: {**convs(), "c": nn.Conv2d(8, 1, 1)}, IMAGE,
                       {"a.weight": 8}),
    "average_pool": (through, around(lambda: nn.AvgPool2d(2)), IMAGE, {"a.weight": 8}),
    "max_pool": (through, around(lambda: nn.MaxPool2d(2)), IMAGE, {"a.weight": 8}),
    "max_pool_with_indices": (
        lambda m, x: m.b(F.max_pool2d(m.a(x), 2, return_indices=True)[0]), convs, IMAGE,
        {"a.weight": 8}),
    "adaptive_pools": (lambda m, x: m.b(F.adaptive_avg_pool2d(m.a(x), 3)
                                        + F.adaptive_max_pool2d(m.a(x), 3)), convs, IMAGE,
                       {"a.weight": 8}),
    "pools_1d": (lambda m, x: m.b(F.avg_pool1d(F.max_pool1d(m.a(x), 2), 2)),
                 lambda: {"a": nn.Conv1d(3, 8, 1), "b": nn.Conv1d(8, 4, 1)},
                 torch.zeros(1, 3, 8), {"a.weight": 8}),
    "pools_3d": (lambda m, x: m.b(F.adaptive_avg_pool3d(F.max_pool3d(m.a(x), 2), 1)),
                 lambda: {"a": nn.Conv3d(3, 8, 1), "b": nn.Conv3d(8, 4, 1)},
                 torch.zeros(1, 3, 4, 4, 4), {"a.weight": 8}),
    "lp_pool": (through, around(lambda: nn.LPPool2d(2, 2)), IMAGE, {"a.weight": 8}),
    "nearest": (through, around(lambda: nn.Upsample(scale_factor=2)), IMAGE, {"a.weight": 8}),
    "bilinear": (through, around(lambda: nn.Upsample((5, 7), mode="bilinear")), IMAGE,
                 {"a.weight": 8}),
    "bicubic": (through, around(lambda: nn.Upsample((5, 7), mode="bicubic")), IMAGE,
                {"a.weight": 8}),
}


@pytest.mark.parametrize("name", CASES)
def test_masked_equals_sliced(name: Any, net: type[Net],
                              hold: Callable[..., ChannelGroups]) -> None:
    function, build, inputs, expected = CASES[name]
    found = hold(net(function, **build()), inputs)
    assert {group.name: len(group.channels) for group in found.groups} == expected
