"""Recurrent layers: cells unrolled in Python lose hidden units; a fused layer stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn

from edgewright.channels import ChannelGroups

TOKENS = torch.zeros(1, 3, 4)


def _unrolled(m: Any, x: Any) -> Any:
    state = x.new_zeros(x.shape[0], 8)
    for step in range(3):
        state = m.r(x[:, step], state)
    return m.b(state)


def _unrolled_lstm(m: Any, x: Any) -> Any:
    state = (x.new_zeros(x.shape[0], 8), torch.ones(x.shape[0], 8))
    for step in range(3):
        state = m.r(x[:, step], state)
    return m.b(state[0])


def _written_out(m: Any, x: Any) -> Any:
    hidden = cell = torch.zeros(x.shape[0], 8)
    for step in range(3):
        i, f, g, o = (m.i(x[:, step]) + m.h(hidden)).chunk(4, -1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
    return m.b(hidden)


def around(layer: Any) -> Callable[..., Any]:
    return lambda: {"r": layer(), "b": nn.Linear(8, 4)}


CASES = {
    "lstm_cell": (_unrolled_lstm, around(lambda: nn.LSTMCell(4, 8)), {"r.weight_ih by 4": 8}),
    "gru_cell": (_unrolled, around(lambda: nn.GRUCell(4, 8)), {"r.weight_ih by 3": 8}),
    "rnn_cell": (_unrolled, around(lambda: nn.RNNCell(4, 8)), {"r.weight_ih": 8}),
    "rnn_cell_without_bias": (_unrolled, around(
        lambda: nn.RNNCell(4, 8, bias=False, nonlinearity="relu")), {"r.weight_ih": 8}),
    "written_out": (_written_out, lambda: {
        "i": nn.Linear(4, 32), "h": nn.Linear(8, 32), "b": nn.Linear(8, 4)},
        {"i.weight by 4": 8}),
    "a_layer_before": (lambda m, x: m.b(m.r(m.a(x[:, 0]), m.c(x[:, 1]))), lambda: {
        **around(lambda: nn.GRUCell(6, 8))(), "a": nn.Linear(4, 6), "c": nn.Linear(4, 8)},
        {"a.weight": 6, "r.weight_ih by 3": 8}),
}


@pytest.mark.parametrize("name", CASES)
def test_masked_equals_sliced(name: Any, net: type[Net],
                              hold: Callable[..., ChannelGroups]) -> None:
    function, build, expected = CASES[name]
    found = hold(net(function, **build()), TOKENS)
    assert {group.name: len(group.channels) for group in found.groups} == expected


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_fused_layer_stays_by_name(kind: Any, net: type[Net],
                                     hold: Callable[..., ChannelGroups]) -> None:
    found = hold(net(lambda m, x: m.b(m.c(m.r(m.a(x))[0]).relu()), a=nn.Linear(4, 6),
                     r=kind(6, 8, batch_first=True), c=nn.Linear(8, 5), b=nn.Linear(5, 4)), TOKENS)
    assert {group.name: len(group.channels) for group in found.groups} == {"c.weight": 5}
    assert "has no slicing rule" in found.kept["a.weight"]
    assert "has no slicing rule" in found.kept["r.weight_ih_l0"]
