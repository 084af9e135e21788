"""Joining and splitting along a dimension."""

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


def convs(channels: int = 8) -> Callable[..., Any]:
    return lambda: {"a": conv(3, 8), "b": conv(channels, 4)}


def linears(channels: int = 8, width: int = 8) -> Callable[..., Any]:
    return lambda: {"a": nn.Linear(4, width), "b": nn.Linear(channels, 4)}


def _split(m: Any, x: Any) -> Any:
    first, second, third = torch.split(m.a(x), [2, 4, 2], dim=1)
    return m.b(torch.cat([third, second.relu(), first], 1))


def _chunk(m: Any, x: Any) -> Any:
    gate, value = m.a(x).chunk(2, 1)
    return m.b(gate.sigmoid() * value)


def _shortcut(m: Any, x: Any) -> Any:
    y = m.a(x)
    return m.b(F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + m.c(y))


def _fused(m: Any, x: Any) -> Any:
    """One projection for query, key and value of two heads."""
    qkv = m.a(x).view(x.shape[0], 5, 3, 2, 4)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return m.b((q * k + v).transpose(1, 2).flatten(2))


def _ghost(m: Any, x: Any) -> Any:
    """GhostNet: half of the channels are made cheaply out of the others; too many are cut off."""
    y = m.a(x)
    return m.b(torch.cat([y, m.c(y)], 1)[:, :12])


def _res2net(m: Any, x: Any) -> Any:
    parts = m.a(x).chunk(4, 1)
    second = m.c(parts[1]).relu()
    third = m.d(parts[2] + second).relu()
    return m.b(torch.cat([parts[0], second, third, parts[3]], 1))


def _shuffle_unit(m: Any, x: Any) -> Any:
    left, right = m.a(x).chunk(2, 1)
    y = torch.cat([left, m.c(right).relu()], 1)
    return m.b(y.view(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8))


def _dense(m: Any, x: Any) -> Any:
    y = m.a(x)
    y = torch.cat([y, m.c(y).relu()], 1)
    y = torch.cat([y, m.d(y).relu()], 1)
    return m.b(y)


def _partial(m: Any, x: Any) -> Any:
    """FasterNet: a convolution over a quarter of the channels."""
    first, rest = m.a(x).split([2, 6], 1)
    return m.b(torch.cat([m.c(first), rest], 1))


CASES = {
    "concat": (lambda m, x: m.b(torch.cat([m.a(x), x, m.c(x)], 1)),
               lambda: {**convs(17)(), "c": conv(3, 6)}, IMAGE, {"a.weight": 8, "c.weight": 6}),
    "concat_of_places": (lambda m, x: m.b(torch.cat([m.a(x), m.c(x)], 2)),
                         lambda: {**convs()(), "c": conv(3, 8)}, IMAGE, {"a.weight": 8}),
    "concat_with_itself": (lambda m, x: m.b(torch.cat([m.a(x), m.a(x).relu()], 1)), convs(16),
                           IMAGE, {"a.weight": 8}),
    "dense": (_dense, lambda: {**convs(14)(), "c": conv(8, 3), "d": conv(11, 3)}, IMAGE,
        {"a.weight": 8, "c.weight": 3, "d.weight": 3}),
    "stack": (lambda m, x: m.b(torch.stack([m.a(x), m.c(x)], 1).mean(1)),
              lambda: {**convs()(), "c": conv(3, 8)}, IMAGE, {"a.weight": 8}),
    "stack_merged": (lambda m, x: m.b(torch.stack([m.a(x), m.c(x)], 2).flatten(1, 2)),
                     lambda: {**convs(16)(), "c": conv(3, 8)}, IMAGE, {"a.weight": 8}),
    "split": (_split, convs(), IMAGE, {"a.weight": 2, "a.weight (2)": 4, "a.weight (3)": 2}),
    "split_evenly": (lambda m, x: m.b(sum(m.a(x).split(3, 1)[:2])), convs(3), IMAGE,
        {"a.weight by 2": 3, "a.weight": 2}),
    "split_last": (lambda m, x: m.b(m.a(x).tensor_split(2, -1)[1]), linears(4), TOKENS,
        {"a.weight": 4, "a.weight (2)": 4}),
    "split_to_one": (lambda m, x: m.b(m.a(x).split([7, 1], 1)[0] * m.a(x).split([7, 1], 1)[1]),
                     convs(7), IMAGE, {"a.weight": 7}),
    "chunk": (_chunk, convs(4), IMAGE, {"a.weight by 2": 4}),
    "glu": (lambda m, x: m.b(F.glu(m.a(x), 1)), convs(4), IMAGE, {"a.weight by 2": 4}),
    "swiglu": (lambda m, x: m.b(F.silu(m.a(x)) * m.c(x)),
               lambda: {**linears()(), "c": nn.Linear(4, 8)}, TOKENS, {"a.weight": 8}),
    "unbind": (lambda m, x: m.b(sum(m.a(x).unflatten(-1, (2, 4)).unbind(2))), linears(4), TOKENS,
               {"a.weight by 2": 4}),
    "unbind_fused": (_fused, linears(8, 24), TOKENS, {"a.weight by 12": 2, "a.weight by 6": 4}),
    "indexed_fused": (lambda m, x: m.b(m.a(x).view(-1, 5, 3, 8)[:, :, 0]
                                       * m.a(x).view(-1, 5, 3, 8)[:, :, 2]), linears(8, 24),
                      TOKENS, {"a.weight by 3": 8, "a.weight by 8": 1}),
    "slice": (lambda m, x: m.b(m.a(x)[:, 2:-1]), convs(5), IMAGE,
        {"a.weight": 3, "a.weight (2)": 5}),
    "slice_without_end": (lambda m, x: m.b(torch.ops.aten.slice.Tensor(m.a(x), 1, 2)), convs(6),
                          IMAGE, {"a.weight": 2, "a.weight (2)": 6}),
    "slice_past_the_end": (lambda m, x: m.b(m.a(x)[:, 2:100]), convs(6), IMAGE,
        {"a.weight": 2, "a.weight (2)": 6}),
    "slice_to_one": (lambda m, x: m.b(m.a(x) * m.a(x)[:, :1]), convs(), IMAGE, {"a.weight": 7}),
    "stride_in_space": (lambda m, x: m.b(m.a(x)[:, :, ::2, 1::2]), convs(), IMAGE, {"a.weight": 8}),
    "stride": (lambda m, x: m.b(m.a(x)[:, ::2]), convs(4), IMAGE, {"a.weight by 2": 4}),
    "stride_offset": (lambda m, x: m.b(m.a(x)[:, 1::4] + m.a(x)[:, 3::4]), convs(2), IMAGE,
        {"a.weight by 4": 2}),
    "stride_uneven": (lambda m, x: m.b(m.a(x)[:, ::3]), convs(3), IMAGE, {}),
    "stride_bounded": (lambda m, x: m.b(m.a(x)[:, 1:7:2]), convs(3), IMAGE, {}),
    "narrow": (lambda m, x: m.b(m.a(x).narrow(1, 2, 4)), convs(4), IMAGE,
        {"a.weight": 4, "a.weight (2)": 4}),
    "narrow_from_the_end": (lambda m, x: m.b(m.a(x).narrow(1, -4, 4)), convs(4), IMAGE,
        {"a.weight": 4, "a.weight (2)": 4}),
    "select": (lambda m, x: m.b(m.a(x) + m.a(x)[:, 2].unsqueeze(1)), convs(), IMAGE,
        {"a.weight": 7}),
    "select_last": (lambda m, x: m.b(m.a(x) + m.a(x)[:, -1:] + m.a(x).select(1, -2)[:, None]),
                    convs(), IMAGE, {"a.weight": 6}),
    "select_a_token": (lambda m, x: m.b(m.a(x)[:, 0]), linears(), TOKENS, {"a.weight": 8}),
    "shortcut": (_shortcut, lambda: {"a": conv(3, 4), "b": conv(8, 4),
                                     "c": conv(4, 8, stride=2)}, IMAGE,
        {"a.weight": 4, "c.weight": 4}),
    "pad": (lambda m, x: m.b(F.pad(m.a(x), (1, 1, 0, 0, 2, 1), value=3.0)), convs(11), IMAGE,
            {"a.weight": 8, "b.weight": 3}),
    "pad_reflect": (lambda m, x: m.b(F.pad(m.a(x), (1, 1, 1, 1), mode="reflect")), convs(),
                    IMAGE, {"a.weight": 8}),
    "pad_circular": (lambda m, x: m.b(F.pad(m.a(x), (1, 1, 1, 1), mode="circular")), convs(),
                     IMAGE, {"a.weight": 8}),
    "pad_replicate": (lambda m, x: m.b(F.pad(m.a(x), (1, 1, 1, 1), mode="replicate")), convs(),
                      IMAGE, {"a.weight": 8}),
    "pad_cuts": (lambda m, x: m.b(F.pad(m.a(x), (0, 0, 0, 0, -1, 1))), convs(), IMAGE, {}),
    "ghost": (_ghost, lambda: {**convs(12)(), "c": conv(8, 8, groups=8)}, IMAGE,
        {"a.weight": 4, "a.weight (2)": 4}),
    "res2net": (_res2net, lambda: {**convs()(), "c": conv(2, 2), "d": conv(2, 2)}, IMAGE,
        {"a.weight": 2, "a.weight (2)": 2, "a.weight (3)": 2, "a.weight (4)": 2, "d.weight": 2}),
    "shuffle_unit": (_shuffle_unit, lambda: {**convs()(), "c": conv(4, 4)}, IMAGE,
        {"a.weight": 4, "a.weight by 4": 1, "c.weight by 4": 1, "a.weight (2)": 4}),
    "partial": (_partial, lambda: {**convs()(), "c": conv(2, 2)}, IMAGE,
        {"a.weight": 2, "a.weight (2)": 6, "c.weight": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_masked_equals_sliced(name: Any, net: type[Net],
                              hold: Callable[..., ChannelGroups]) -> None:
    function, build, inputs, expected = CASES[name]
    found = hold(net(function, **build()), inputs)
    assert {group.name: len(group.channels) for group in found.groups} == expected
