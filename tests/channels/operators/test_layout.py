"""Operators that rearrange elements."""

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


def convs(channels: int = 8, width: int = 8) -> Callable[..., Any]:
    return lambda: {"a": conv(3, width), "b": conv(channels, 4)}


def into(features: Any) -> Callable[..., Any]:
    return lambda: {"a": conv(3, 8), "b": nn.Linear(features, 4)}


def linears(channels: int = 8, width: int = 8) -> Callable[..., Any]:
    return lambda: {"a": nn.Linear(4, width), "b": nn.Linear(channels, 4)}


def _mobile_vit(m: Any, x: Any) -> Any:
    """Unfold into patches merged with the batch, attend over them, fold again."""
    y = m.a(x)
    y = y.reshape(-1, 2, 4, 2).transpose(1, 2).reshape(-1, 8, 16, 4).transpose(1, 3)
    y = y.reshape(-1, 16, 8)
    y = y + m.c(y).relu()
    y = y.view(-1, 4, 16, 8).transpose(1, 3).reshape(-1, 4, 2, 2).transpose(1, 2)
    return m.b(y.reshape(-1, 8, 8, 8))


def _swin(m: Any, x: Any) -> Any:
    """Shifted windows of 4 by 4: rolled, partitioned into the batch, put back."""
    y = m.a(x).permute(0, 2, 3, 1).roll((-2, -2), (1, 2))
    y = y.view(-1, 2, 4, 2, 4, 8).transpose(2, 3).reshape(-1, 16, 8)
    y = m.c(y).relu()
    y = y.view(-1, 2, 2, 4, 4, 8).transpose(2, 3).reshape(-1, 8, 8, 8).roll((2, 2), (1, 2))
    return m.b(y.permute(0, 3, 1, 2))


def _patch_merging(m: Any, x: Any) -> Any:
    y = m.a(x).permute(0, 2, 3, 1)
    y = torch.cat([y[:, 0::2, 0::2], y[:, 1::2, 0::2], y[:, 0::2, 1::2], y[:, 1::2, 1::2]], -1)
    return m.b(y)


def _involution(m: Any, x: Any) -> Any:
    """Unfolded windows weighted by a kernel computed for each place and group."""
    y = m.a(x)
    columns = F.unfold(y, 3, padding=1).view(-1, 2, 4, 9, 64)
    kernel = m.c(y).view(-1, 2, 1, 9, 64)
    return m.b((columns * kernel).sum(3).view(-1, 8, 8, 8))


def _ghost_shuffle(m: Any, x: Any) -> Any:
    y = m.a(x)
    return m.b(y.reshape(-1, 4, 2, 8, 8).permute(0, 2, 1, 3, 4).flatten(1, 2))


def _channels_in_the_batch(m: Any, x: Any) -> Any:
    y = m.a(x)
    return m.b(F.max_pool1d(y.reshape(-1, 1, 64), 3, 1, 1).view(-1, 8, 8, 8))


CASES = {
    "flatten": (lambda m, x: m.b(m.a(x).flatten(1)), into(512), IMAGE, {"a.weight": 8}),
    "view": (lambda m, x: m.b(m.a(x).view(x.shape[0], 512)), into(512), IMAGE, {"a.weight": 8}),
    "view_inferred": (lambda m, x: m.b(m.a(x).view(x.shape[0], -1)), into(512), IMAGE,
        {"a.weight": 8}),
    "view_inferred_batch": (lambda m, x: m.b(m.a(x).view(-1, 8 * 64)), into(512), IMAGE,
        {"a.weight": 8}),
    "view_literal": (lambda m, x: m.b(m.a(x).view(-1, 8, 64).tanh().view(-1, 8, 8, 8)), convs(),
                     IMAGE, {"a.weight": 8}),
    "view_computed": (lambda m, x: m.b(m.a(x).view(x.shape[0], m.a(x).shape[1], 64).mean(-1)),
                      into(8), IMAGE, {"a.weight": 8}),
    "view_merges_places": (lambda m, x: m.b(m.a(x).reshape(-1, 8, 4, 16).tanh()
                                            .reshape(-1, 8, 8, 8)), convs(), IMAGE,
        {"a.weight": 8}),
    "view_does_not_nest": (lambda m, x: m.b(m.a(x).reshape(-1, 3, 4).tanh().reshape(-1, 2, 6)
                                            .flatten(1)), lambda: {
        "a": nn.Linear(4, 12), "b": nn.Linear(12, 4)}, torch.zeros(1, 4), {}),
    "view_as": (lambda m, x: m.b(m.a(x).flatten(1).view_as(m.a(x))), convs(), IMAGE,
        {"a.weight": 8}),
    "unflatten": (lambda m, x: m.b(m.a(x).flatten(1).unflatten(-1, (8, 64)).mean(-1)), into(8),
                  IMAGE, {"a.weight": 8}),
    "unflatten_inferred": (lambda m, x: m.b(m.a(x).unflatten(1, (-1, 2)).sum(2)), convs(4),
                           IMAGE, {"a.weight by 2": 4, "a.weight by 4": 2}),
    "squeeze": (lambda m, x: m.b(m.a(x).mean((2, 3), keepdim=True).squeeze(-1).squeeze(2)),
                into(8), IMAGE, {"a.weight": 8}),
    "squeeze_all": (lambda m, x: m.b(m.a(x).mean((2, 3), keepdim=True).squeeze()), into(8),
                    torch.zeros(2, 3, 8, 8), {"a.weight": 8}),
    "unsqueeze": (lambda m, x: m.b(m.a(x).unsqueeze(2).squeeze(2)), convs(), IMAGE,
        {"a.weight": 8}),
    "permute": (lambda m, x: m.b(m.a(x).permute(0, 2, 3, 1)), into(8), IMAGE, {"a.weight": 8}),
    "transposes": (lambda m, x: m.b(m.a(x).flatten(2).transpose(1, 2).mT.swapaxes(-1, 1)),
                   into(8), IMAGE, {"a.weight": 8}),
    "movedim": (lambda m, x: m.b(torch.moveaxis(m.a(x).movedim(1, 0), 0, -1)), into(8), IMAGE,
                {"a.weight": 8}),
    "t": (lambda m, x: m.b(F.linear(m.a(x), m.w.t())), lambda: {
        **linears(6)(), "w": nn.Parameter(torch.randn(8, 6))}, TOKENS, {"w": 8, "w (2)": 6}),
    "pixel_shuffle": (lambda m, x: m.b(F.pixel_shuffle(m.a(x), 2)), convs(4, 16), IMAGE,
        {"a.weight by 4": 4}),
    "pixel_unshuffle": (lambda m, x: m.b(F.pixel_unshuffle(m.a(x), 2)), convs(32), IMAGE,
        {"a.weight": 8}),
    "pixels_there_and_back": (lambda m, x: m.b(F.pixel_unshuffle(F.pixel_shuffle(
        m.a(x), 2).relu(), 2)), convs(16, 16), IMAGE, {"a.weight by 4": 4}),
    "space_to_depth": (lambda m, x: m.b(m.a(x).view(-1, 8, 4, 2, 4, 2).permute(0, 3, 5, 1, 2, 4)
                                        .reshape(-1, 32, 4, 4)), convs(32), IMAGE, {"a.weight": 8}),
    "depth_to_space": (lambda m, x: m.b(m.a(x).view(-1, 4, 2, 2, 8, 8).permute(0, 1, 4, 2, 5, 3)
                                        .reshape(-1, 4, 16, 16)), convs(4, 16), IMAGE,
        {"a.weight by 4": 4}),
    "unfold": (lambda m, x: m.b(F.unfold(m.a(x), 3, padding=1).transpose(1, 2)), into(72), IMAGE,
               {"a.weight": 8}),
    "fold": (lambda m, x: m.b(F.fold(F.unfold(m.a(x), 2, stride=2).relu(), (8, 8), 2, stride=2)),
             convs(), IMAGE, {"a.weight": 8}),
    "tensor_unfold": (lambda m, x: m.b(m.a(x).unfold(2, 4, 4).unfold(3, 4, 4).mean((2, 3))),
                      convs(), IMAGE, {"a.weight": 8}),
    "involution": (_involution, lambda: {**convs()(), "c": nn.Conv2d(8, 18, 1)}, IMAGE,
        {"a.weight by 4": 2, "a.weight by 2": 4}),
    "expand": (lambda m, x: m.b(m.c(m.a(x).mean((2, 3), keepdim=True)).expand(-1, 8, 8, 8)
                                * m.a(x)), lambda: {**convs()(), "c": nn.Conv2d(8, 8, 1)}, IMAGE,
               {"a.weight": 8}),
    "expand_one": (lambda m, x: m.b(m.a(x) * m.c(x).expand(-1, 8, -1, -1)),
                   lambda: {**convs()(), "c": conv(3, 1)}, IMAGE, {"a.weight": 8}),
    "expand_as": (lambda m, x: m.b(m.c(x).expand_as(m.a(x)) + m.a(x)),
                  lambda: {**convs()(), "c": conv(3, 1)}, IMAGE, {"a.weight": 8}),
    "repeat": (lambda m, x: m.b(m.a(x).repeat(1, 2, 1, 1)), convs(16), IMAGE, {"a.weight": 8}),
    "repeat_interleave": (lambda m, x: m.b(m.a(x).repeat_interleave(2, 1)), convs(16), IMAGE,
                          {"a.weight": 8}),
    "repeat_places": (lambda m, x: m.b(m.a(x).mean(3, keepdim=True).repeat(1, 1, 1, 8)), convs(),
                      IMAGE, {"a.weight": 8}),
    "channel_shuffle": (lambda m, x: m.b(m.s(m.a(x))),
                        lambda: {**convs()(), "s": nn.ChannelShuffle(2)}, IMAGE,
        {"a.weight by 4": 2, "a.weight by 2": 4}),
    "channel_shuffle_written_out": (_ghost_shuffle, convs(), IMAGE,
        {"a.weight by 2": 4, "a.weight by 4": 2}),
    "shuffled_around_groups": (
        lambda m, x: m.b(m.d(m.s(m.c(m.a(x))))), lambda: {
            **convs()(), "c": conv(8, 8, groups=2), "s": nn.ChannelShuffle(2),
            "d": conv(8, 8, groups=2)}, IMAGE,
        {"a.weight by 2": 4, "a.weight by 4": 2, "c.weight by 4": 2,
         "c.weight by 4 (2)": 2, "d.weight by 2": 4}),
    "roll_places": (lambda m, x: m.b(m.a(x).roll((1, 2), (2, 3)).flip(3)), convs(), IMAGE,
        {"a.weight": 8}),
    "roll_channels": (lambda m, x: m.b(m.a(x).roll(1, 1)), convs(), IMAGE, {}),
    "flip_channels": (lambda m, x: m.b(m.a(x).flip(1)), convs(), IMAGE, {}),
    "cumsum_places": (lambda m, x: m.b(m.a(x).cumsum(-1)), convs(), IMAGE, {"a.weight": 8}),
    "cumsum_channels": (lambda m, x: m.b(m.a(x).cumsum(1)), convs(), IMAGE, {}),
    "channels_in_the_batch": (_channels_in_the_batch, convs(), IMAGE, {"a.weight": 8}),
    "mobile_vit": (_mobile_vit, lambda: {**convs()(), "c": nn.Linear(8, 8)}, IMAGE,
        {"a.weight": 8}),
    "swin": (_swin, lambda: {**convs()(), "c": nn.Linear(8, 8)}, IMAGE,
        {"a.weight": 8, "c.weight": 8}),
    "patch_merging": (_patch_merging, into(32), IMAGE, {"a.weight": 8}),
    "class_token": (lambda m, x: m.b(torch.cat([m.k.expand(x.shape[0], -1, -1), m.a(x)], 1)[:, 0]
                                     + m.a(x).mean(1)), lambda: {
        **linears()(), "k": nn.Parameter(torch.randn(1, 1, 8))}, TOKENS, {"a.weight": 8}),
    "mixer": (lambda m, x: m.b(m.d(m.c(m.a(x).mT).relu()).mT + m.a(x)), lambda: {
        **linears()(), "c": nn.Linear(5, 6), "d": nn.Linear(6, 5)}, TOKENS,
        {"a.weight": 8, "c.weight": 6}),
    "new_zeros": (lambda m, x: m.b(torch.cat([m.a(x), m.a(x).new_zeros(x.shape[0], 8, 8, 8)], 1)
                                   + torch.zeros(x.shape[0], 16, 8, 8)), convs(16), IMAGE,
        {"a.weight": 8, "b.weight": 8}),
}


@pytest.mark.parametrize("name", CASES)
def test_masked_equals_sliced(name: Any, net: type[Net],
                              hold: Callable[..., ChannelGroups]) -> None:
    function, build, inputs, expected = CASES[name]
    found = hold(net(function, **build()), inputs)
    assert {group.name: len(group.channels) for group in found.groups} == expected
