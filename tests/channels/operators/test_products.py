"""Sums of products: linear layers, matrix products, attention in all its forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import nn

from edgewright.channels import ChannelGroups

IMAGE = torch.zeros(1, 3, 4, 4)
TOKENS = torch.zeros(1, 5, 8)


def linears(**widths: Any) -> Callable[..., Any]:
    """Linear layers: ``a=(8, 6)`` is ``self.a`` from eight features to six."""
    return lambda: {name: nn.Linear(*sizes) for name, sizes in widths.items()}


QKVO = linears(q=(8, 8), k=(8, 8), v=(8, 8), o=(8, 8))


def _heads(y: Any, count: int, width: Any) -> Any:
    return y.view(y.shape[0], y.shape[1], count, width).transpose(1, 2)


def _fused_attention(m: Any, x: Any, **options: Any) -> Any:
    q, k, v = (_heads(layer(x), 2, 4) for layer in (m.q, m.k, m.v))
    y = F.scaled_dot_product_attention(q, k, v, **options)
    return m.o(y.transpose(1, 2).reshape(x.shape[0], 5, 8))


def _written_out(m: Any, x: Any) -> Any:
    q, k, v = (_heads(layer(x), 2, 4) for layer in (m.q, m.k, m.v))
    attention = (q @ k.transpose(-2, -1) * 4 ** -0.5).softmax(-1)
    return m.o((attention @ v).transpose(1, 2).flatten(2))


def _bmm(m: Any, x: Any) -> Any:
    """Heads merged with the batch, as in older code."""
    q, k, v = (_heads(layer(x), 2, 4).reshape(-1, 5, 4) for layer in (m.q, m.k, m.v))
    attention = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
    return m.o(torch.bmm(attention, v).view(-1, 2, 5, 4).transpose(1, 2).reshape(-1, 5, 8))


def _timm(m: Any, x: Any) -> Any:
    """One projection for all three, divided as in timm's vision transformer."""
    qkv = m.q(x).reshape(x.shape[0], 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    y = F.scaled_dot_product_attention(q, k, v)
    return m.o(y.transpose(1, 2).reshape(x.shape[0], 5, 8))


def _chunked(m: Any, x: Any) -> Any:
    q, k, v = (_heads(part, 2, 4) for part in m.q(x).chunk(3, -1))
    y = F.scaled_dot_product_attention(q, k, v)
    return m.o(y.transpose(1, 2).reshape(x.shape[0], 5, 8))


def _interleaved(m: Any, x: Any) -> Any:
    """Query, key and value side by side within every head."""
    q, k, v = m.q(x).view(x.shape[0], 5, 2, 12).transpose(1, 2).chunk(3, -1)
    y = F.scaled_dot_product_attention(q, k, v)
    return m.o(y.transpose(1, 2).reshape(x.shape[0], 5, 8))


def _grouped_query(m: Any, x: Any) -> Any:
    q, k, v = _heads(m.q(x), 4, 2), _heads(m.k(x), 2, 2), _heads(m.v(x), 2, 2)
    k, v = (y[:, :, None].expand(-1, 2, 2, 5, 2).reshape(-1, 4, 5, 2) for y in (k, v))
    y = F.scaled_dot_product_attention(q, k, v)
    return m.o(y.transpose(1, 2).reshape(-1, 5, 8))


def _grouped_query_interleaved(m: Any, x: Any) -> Any:
    q, k, v = _heads(m.q(x), 4, 2), _heads(m.k(x), 2, 2), _heads(m.v(x), 2, 2)
    k, v = (y.repeat_interleave(2, 1) for y in (k, v))
    attention = (q @ k.mT / 2 ** 0.5).softmax(-1)
    return m.o((attention @ v).transpose(1, 2).reshape(-1, 5, 8))


def _grouped_query_fused(m: Any, x: Any) -> Any:
    q, k, v = _heads(m.q(x), 4, 2), _heads(m.k(x), 2, 2), _heads(m.v(x), 2, 2)
    y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    return m.o(y.transpose(1, 2).reshape(-1, 5, 8))


def _multi_query(m: Any, x: Any) -> Any:
    q, k, v = _heads(m.q(x), 4, 2), _heads(m.k(x), 1, 2), _heads(m.v(x), 1, 2)
    attention = (q @ k.mT / 2 ** 0.5).softmax(-1)
    return m.o((attention @ v).transpose(1, 2).reshape(-1, 5, 8))


def _rotary(m: Any, x: Any) -> Any:
    """Halves of a head's width are rotated against each other by position."""
    angles = torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.1]).repeat(2)
    q, k, v = (_heads(layer(x), 2, 4) for layer in (m.q, m.k, m.v))

    def turn(y: Any) -> Any:
        turned = torch.cat([-y[..., 2:], y[..., :2]], -1)
        return y * angles.cos() + turned * angles.sin()

    y = F.scaled_dot_product_attention(turn(q), turn(k), v)
    return m.o(y.transpose(1, 2).reshape(-1, 5, 8))


def _normed_heads(m: Any, x: Any) -> Any:
    """Queries and keys are normalised over the width of a head."""
    q, k, v = (_heads(layer(x), 2, 4) for layer in (m.q, m.k, m.v))
    y = F.scaled_dot_product_attention(m.n(q), m.n(k), v)
    return m.o(y.transpose(1, 2).reshape(-1, 5, 8))


def _cross_covariance(m: Any, x: Any) -> Any:
    """XCA: attention of channels over channels, a temperature for each head."""
    q, k, v = m.q(x).view(-1, 5, 3, 2, 4).permute(2, 0, 3, 4, 1)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attention = (q @ k.transpose(-2, -1) * m.t).softmax(-1)
    return m.o((attention @ v).permute(0, 3, 1, 2).reshape(-1, 5, 8))


def _linear_attention(m: Any, x: Any) -> Any:
    q, k, v = (_heads(layer(x), 2, 4) for layer in (m.q, m.k, m.v))
    q, k = q.softmax(-1), k.softmax(-2)
    return m.o((q @ (k.mT @ v)).transpose(1, 2).reshape(-1, 5, 8))


def _einsum_attention(m: Any, x: Any) -> Any:
    q, k, v = (layer(x).view(-1, 5, 2, 4) for layer in (m.q, m.k, m.v))
    attention = torch.einsum("bihd,bjhd->bhij", q, k).softmax(-1)
    return m.o(torch.einsum("bhij,bjhd->bihd", attention, v).flatten(2))


def _non_local(m: Any, x: Any) -> Any:
    q, k, v = (layer(x).flatten(2) for layer in (m.q, m.k, m.v))
    attention = torch.bmm(q.transpose(1, 2), k).softmax(-1)
    return m.b(m.o(torch.bmm(v, attention.transpose(1, 2)).view(-1, 6, 4, 4)) + m.a(x))


def _self_attention(m: Any, x: Any) -> Any:
    return m.o(m.t(x, x, x, need_weights=False)[0])


HEADS = {"q.weight by 4": 2, "q.weight by 2": 4, "v.weight by 2": 4}
CASES = {
    "linear": (lambda m, x: m.b(m.a(x).relu()), linears(a=(8, 6), b=(6, 4)), TOKENS,
               {"a.weight": 6}),
    "linear_of_vectors": (lambda m, x: m.b(m.a(x).relu()), linears(a=(8, 6), b=(6, 4)),
                          torch.zeros(1, 8), {"a.weight": 6}),
    "linear_along_tokens": (lambda m, x: m.b(m.a(x.mT).relu()), linears(a=(5, 6), b=(6, 4)),
                            TOKENS, {"a.weight": 6}),
    "bilinear_form": (lambda m, x: m.b((m.a(x) @ m.w @ m.c(x).mT).relu()), lambda: {
        **linears(a=(8, 6), c=(8, 4), b=(5, 4))(), "w": nn.Parameter(torch.randn(6, 4))}, TOKENS,
        {"w": 6, "c.weight": 4}),
    "low_rank": (lambda m, x: m.b(x @ m.u @ m.w), lambda: {
        **linears(b=(8, 4))(), "u": nn.Parameter(torch.randn(8, 3)),
        "w": nn.Parameter(torch.randn(3, 8))}, TOKENS, {"w": 3, "w (2)": 8}),
    "adapter": (lambda m, x: m.b(m.a(x) + F.linear(F.linear(x, m.u), m.w) * 0.5), lambda: {
        **linears(a=(8, 6), b=(6, 4))(), "u": nn.Parameter(torch.randn(3, 8)),
        "w": nn.Parameter(torch.randn(6, 3))}, TOKENS, {"u": 3, "w": 6}),
    "addmm": (lambda m, x: m.b(torch.addmm(m.p, x, m.w)), lambda: {
        **linears(b=(6, 4))(), "w": nn.Parameter(torch.randn(8, 6)),
        "p": nn.Parameter(torch.randn(6))}, torch.zeros(1, 8), {"w": 6}),
    "baddbmm": (lambda m, x: m.b(torch.baddbmm(m.a(x), m.c(x), m.d(x).mT @ m.a(x), beta=0.5)),
                linears(a=(8, 6), b=(6, 4), c=(8, 3), d=(8, 3)), TOKENS,
        {"a.weight": 6, "c.weight": 3}),
    "outer": (lambda m, x: m.b((m.a(x).mT @ m.c(x)).flatten(1)),
              linears(a=(8, 6), c=(8, 4), b=(24, 4)), TOKENS, {"a.weight": 6, "c.weight": 4}),
    "matrix_and_vector": (lambda m, x: m.b(m.a(x) * (m.a(x) @ m.p)[..., None]), lambda: {
        **linears(a=(8, 6), b=(6, 4))(), "p": nn.Parameter(torch.randn(6))}, TOKENS,
        {"a.weight": 6}),
    "einsum": (lambda m, x: m.b(torch.einsum("btf,fg->btg", m.a(x), m.w)), lambda: {
        **linears(a=(8, 6), b=(7, 4))(), "w": nn.Parameter(torch.randn(6, 7))}, TOKENS,
        {"w": 6, "w (2)": 7}),
    "einsum_ellipsis": (lambda m, x: m.b(torch.einsum("...f,...f,gf->...g", m.a(x), m.c(x), m.w)),
                        lambda: {**linears(a=(8, 6), c=(8, 6), b=(7, 4))(),
                                 "w": nn.Parameter(torch.randn(7, 6))}, TOKENS,
        {"w": 7, "a.weight": 6}),
    "einsum_sum": (lambda m, x: m.b(m.a(x) * torch.einsum("btf->bt", m.a(x))[..., None]),
                   linears(a=(8, 6), b=(6, 4)), TOKENS, {"a.weight": 6}),
    "einsum_without_arrow": (lambda m, x: m.b(torch.einsum("abc,cd", m.a(x), m.w)), lambda: {
        **linears(a=(8, 6), b=(7, 4))(), "w": nn.Parameter(torch.randn(6, 7))}, TOKENS,
        {"w": 6, "w (2)": 7}),
    "einsum_heads": (lambda m, x: m.b(torch.einsum("btf,fhd->bthd", m.a(x), m.w).flatten(2)),
                     lambda: {**linears(a=(8, 6), b=(8, 4))(),
                              "w": nn.Parameter(torch.randn(6, 2, 4))}, TOKENS,
        {"w": 6, "w (2)": 2, "w (3)": 4}),
    "attention": (_fused_attention, QKVO, TOKENS, HEADS),
    "attention_scaled": (lambda m, x: _fused_attention(m, x, scale=0.3), QKVO, TOKENS, HEADS),
    "attention_causal": (lambda m, x: _fused_attention(m, x, is_causal=True), QKVO, TOKENS,
                         HEADS),
    "attention_masked": (lambda m, x: _fused_attention(m, x, attn_mask=m.p), lambda: {
        **QKVO(), "p": nn.Parameter(torch.randn(2, 5, 5))}, TOKENS,
        {"p": 2, "q.weight by 2": 4, "v.weight by 2": 4}),
    "attention_written_out": (_written_out, QKVO, TOKENS, HEADS),
    "attention_bmm": (_bmm, QKVO, TOKENS, HEADS),
    "attention_timm": (_timm, linears(q=(8, 24), o=(8, 8)), TOKENS,
        {"q.weight by 12": 2, "q.weight by 6": 4}),
    "attention_chunked": (_chunked, linears(q=(8, 24), o=(8, 8)), TOKENS,
        {"q.weight by 12": 2, "q.weight by 4": 4, "q.weight by 2": 4}),
    "attention_interleaved": (_interleaved, linears(q=(8, 24), o=(8, 8)), TOKENS,
        {"q.weight by 12": 2, "q.weight by 4": 4, "q.weight by 2": 4}),
    "attention_einsum": (_einsum_attention, QKVO, TOKENS, HEADS),
    "attention_of_one_head": (lambda m, x: m.o(F.scaled_dot_product_attention(
        m.q(x), m.k(x), m.v(x))), QKVO, TOKENS, {"q.weight": 8, "v.weight": 8}),
    "attention_rotary": (_rotary, QKVO, TOKENS,
        {"q.weight by 4": 2, "q.weight by 4 (2)": 2, "v.weight by 2": 4}),
    "attention_with_normed_heads": (_normed_heads, lambda: {**QKVO(), "n": nn.LayerNorm(4)},
                                    TOKENS,
        {"q.weight by 2": 4, "q.weight by 4": 2, "v.weight by 2": 4}),
    "multi_head_module": (_self_attention, lambda: {
        **linears(o=(8, 4))(), "t": nn.MultiheadAttention(8, 2, batch_first=True)}, TOKENS,
        {"t.out_proj.weight": 8, "t.in_proj_weight by 12": 2, "t.in_proj_weight by 6": 4}),
    "multi_head_module_with_weights": (lambda m, x: m.o(m.t(x, x, x)[0]), lambda: {
        **linears(o=(8, 4))(), "t": nn.MultiheadAttention(8, 2, batch_first=True)}, TOKENS,
        {"t.out_proj.weight": 8, "t.in_proj_weight by 12": 2, "t.in_proj_weight by 6": 4}),
    "transformer_layer": (lambda m, x: m.o(m.t(m.a(x))), lambda: {
        **linears(a=(8, 8), o=(8, 4))(),
        "t": nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)}, TOKENS,
        {"a.weight": 8, "t.linear1.weight": 16,
         "t.self_attn.in_proj_weight by 12": 2, "t.self_attn.in_proj_weight by 6": 4}),
    "grouped_query": (_grouped_query, linears(q=(8, 8), k=(8, 4), v=(8, 4), o=(8, 8)), TOKENS,
        {"q.weight by 4": 2, "q.weight by 4 (2)": 2, "v.weight by 2": 2, "q.weight by 4 (3)": 2}),
    "grouped_query_interleaved": (_grouped_query_interleaved, linears(
        q=(8, 8), k=(8, 4), v=(8, 4), o=(8, 8)), TOKENS,
        {"q.weight by 4": 2, "q.weight by 4 (2)": 2, "v.weight by 2": 2}),
    "grouped_query_fused": (_grouped_query_fused, linears(
        q=(8, 8), k=(8, 4), v=(8, 4), o=(8, 8)), TOKENS,
        {"q.weight by 4": 2, "q.weight by 4 (2)": 2, "v.weight by 2": 2, "q.weight by 4 (3)": 2}),
    "multi_query": (_multi_query, linears(q=(8, 8), k=(8, 2), v=(8, 2), o=(8, 8)), TOKENS,
        {"q.weight by 4": 2, "v.weight": 2, "q.weight by 2": 4}),
    "cross_covariance": (_cross_covariance, lambda: {
        **linears(q=(8, 24), o=(8, 8))(), "t": nn.Parameter(torch.rand(2, 1, 1))}, TOKENS,
        {"t": 2, "q.weight by 6": 4}),
    "linear_attention": (_linear_attention, QKVO, TOKENS,
        {"q.weight by 4": 2, "q.weight by 2": 4, "v.weight by 2": 4}),
    "non_local": (_non_local, lambda: {
        **{name: nn.Conv2d(3, 6, 1) for name in "qkv"}, "o": nn.Conv2d(6, 8, 1),
        "a": nn.Conv2d(3, 8, 1), "b": nn.Conv2d(8, 4, 1)}, IMAGE,
        {"q.weight": 6, "v.weight": 6, "o.weight": 8}),
}


@pytest.mark.parametrize("name", CASES)
def test_masked_equals_sliced(name: Any, net: type[Net],
                              hold: Callable[..., ChannelGroups]) -> None:
    function, build, inputs, expected = CASES[name]
    found = hold(net(function, **build()), inputs)
    assert {group.name: len(group.channels) for group in found.groups} == expected
