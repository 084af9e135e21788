"""Rows of tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import nn

from edgewright.channels import ChannelGroups

WORDS = torch.tensor([[1, 2, 6]])
TOKENS = torch.zeros(1, 4, 4)
PAIRS = torch.arange(16).reshape(4, 4) % 7


def _relative_positions(m: Any, x: Any) -> Any:
    """Attention of two heads with a table of biases by distance, as in Swin."""
    y = m.a(x).view(-1, 4, 2, 4).transpose(1, 2)
    bias = m.t[m.i.view(-1)].view(4, 4, 2).permute(2, 0, 1)
    attention = (y @ y.transpose(-2, -1) + bias).sigmoid()
    return m.b((attention @ y).transpose(1, 2).flatten(2))


def _tied_decoder(m: Any, x: Any) -> Any:
    return F.linear(m.c(m.e(x)).relu() + m.e(x), m.e.weight)


CASES: dict[str, tuple[Any, ...]] = {
    "embedding": (lambda m, x: m.b(m.a(m.e(x)).relu()), lambda: {
        "e": nn.Embedding(7, 6), "a": nn.Linear(6, 8), "b": nn.Linear(8, 4)}, WORDS,
        {"e.weight": 6, "a.weight": 8}),
    "tied_decoder": (_tied_decoder, lambda: {
        "e": nn.Embedding(7, 8), "c": nn.Linear(8, 8)}, WORDS, {"c.weight": 8}),
    "positions": (lambda m, x: m.b((m.a(x) + m.p).view(x.shape[0], 32).relu()), lambda: {
        "a": nn.Linear(4, 8), "b": nn.Linear(32, 2), "p": nn.Parameter(torch.randn(1, 4, 8))},
        TOKENS, {"a.weight": 8}),
    "sliced_positions": (lambda m, x: m.b(m.a(x) + m.p[:, :4]), lambda: {
        "a": nn.Linear(4, 8), "b": nn.Linear(8, 2), "p": nn.Parameter(torch.randn(1, 9, 8))},
        TOKENS, {"a.weight": 8}),  # the five that nothing reads are no channels
    "embedded_positions": (lambda m, x: m.b(m.e(x) + m.p(torch.arange(3))), lambda: {
        "e": nn.Embedding(7, 8), "p": nn.Embedding(5, 8), "b": nn.Linear(8, 2)}, WORDS,
        {"e.weight": 8}),
    "relative_positions": (_relative_positions, lambda: {
        "a": nn.Linear(4, 8), "b": nn.Linear(8, 4), "t": nn.Parameter(torch.randn(7, 2)),
        "i": nn.Buffer(PAIRS)}, TOKENS, {"a.weight by 4": 2, "a.weight by 2": 4}),
    "index_select": (lambda m, x: m.b(m.a(x).index_select(1, m.i)), lambda: {
        "a": nn.Linear(4, 8), "b": nn.Linear(8, 4), "i": nn.Buffer(torch.tensor([2, 0]))},
        TOKENS, {"a.weight": 8}),
    "index_select_channels": (lambda m, x: m.b(m.a(x).index_select(2, m.i)), lambda: {
        "a": nn.Linear(4, 8), "b": nn.Linear(2, 4), "i": nn.Buffer(torch.tensor([2, 0]))},
        TOKENS, {"b.weight": 2}),
    "index_apart": (lambda m, x: m.b(m.a(x).view(-1, 4, 2, 4)[:, m.i, :, m.i]), lambda: {
        "a": nn.Linear(4, 8), "b": nn.Linear(2, 4), "i": nn.Buffer(torch.tensor([2, 0]))},
        TOKENS, {"a.weight by 4": 2}),
    "index_pairs": (lambda m, x: m.b(m.a(x).view(-1, 2, 2, 8)[:, m.i, m.i]), lambda: {
        "a": nn.Linear(4, 8), "b": nn.Linear(8, 4), "i": nn.Buffer(torch.tensor([1, 0, 1]))},
        TOKENS, {"a.weight": 8}),
    "gather": (lambda m, x: m.b(m.a(x).gather(1, torch.zeros_like(m.a(x), dtype=torch.long))),
               lambda: {"a": nn.Linear(4, 8), "b": nn.Linear(8, 4)}, TOKENS, {}),
    "top_k": (lambda m, x: m.b(m.a(x).topk(2, dim=1).values), lambda: {
        "a": nn.Linear(4, 8), "b": nn.Linear(8, 4)}, TOKENS, {"a.weight": 8}),
    "embedding_bag": (lambda m, x: m.b(m.e(x)), lambda: {
        "e": nn.EmbeddingBag(7, 6), "b": nn.Linear(6, 4)}, WORDS, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_masked_is_sliced(name: Any, net: type[Net], hold: Callable[..., ChannelGroups]) -> None:
    function, build, inputs, expected = CASES[name]
    found = hold(net(function, **build()), inputs)
    assert {group.name: len(group.channels) for group in found.groups} == expected
