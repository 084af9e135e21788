"""Recurrent layers lose hidden units: cells unrolled in Python, and layers that are one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn

from edgewright.channels import ChannelGroups, find_groups
from edgewright.program import Program

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


def _mean(m: Any, x: Any) -> Any:
    return m.b(m.r(m.a(x))[0].mean(1))


def _last_state(m: Any, x: Any) -> Any:
    _, state = m.r(m.a(x))
    return m.b((state[0] if isinstance(state, tuple) else state)[-1])


def _all_states(m: Any, x: Any) -> Any:
    _, state = m.r(m.a(x))
    return m.b(state.transpose(0, 1).flatten(1))


def _given_state(m: Any, x: Any) -> Any:
    state = m.c(x[:, 0])[None]
    return m.b(m.r(m.a(x), (state, state.sigmoid()))[1][1][0])


def _time_first(m: Any, x: Any) -> Any:
    return m.b(m.r(m.a(x).transpose(0, 1))[0][-1])


def _channels_as_steps(m: Any, x: Any) -> Any:
    return m.b(m.r(m.c(x.transpose(1, 2)).transpose(1, 2))[0].mean(1))


def layer(kind: Any, width: int = 8, inputs: int = 6, **settings: Any) -> Callable[..., Any]:
    return lambda: {"a": nn.Linear(4, 6), "b": nn.Linear(width, 4), "c": nn.Linear(3, 8),
                    "r": kind(inputs, 8, **{"batch_first": True, **settings})}


BEFORE = {"a.weight": 6}
LAYERS = {
    "gru": (_mean, layer(nn.GRU), {"r.weight_ih_l0 by 3": 8, **BEFORE}),
    "lstm": (_mean, layer(nn.LSTM), {"r.weight_ih_l0 by 4": 8, **BEFORE}),
    "rnn": (_mean, layer(nn.RNN, nonlinearity="relu"), {"r.weight_ih_l0": 8, **BEFORE}),
    "without_bias": (_mean, layer(nn.GRU, bias=False), {"r.weight_ih_l0 by 3": 8, **BEFORE}),
    "time_first": (_time_first, layer(nn.LSTM, batch_first=False),
                   {"r.weight_ih_l0 by 4": 8, **BEFORE}),
    "both_directions": (_mean, layer(nn.LSTM, 16, bidirectional=True),
                        {"r.weight_ih_l0 by 4": 8, **BEFORE}),
    "stacked": (_mean, layer(nn.GRU, num_layers=3, dropout=0.5), {
        **{f"r.weight_ih_l{number} by 3": 8 for number in range(3)}, **BEFORE}),
    "stacked_in_both_directions": (_mean, layer(nn.LSTM, 16, num_layers=2, bidirectional=True), {
        "r.weight_ih_l0 by 4": 8, "r.weight_ih_l1 by 4": 8, **BEFORE}),
    "last_state_of_the_last_layer": (_last_state, layer(nn.LSTM, num_layers=2), {
        "r.weight_ih_l0 by 4": 8, "r.weight_ih_l1 by 4": 8, **BEFORE}),
    "states_of_all_layers": (_all_states, layer(nn.GRU, 16, num_layers=2),
                             {"r.weight_ih_l0 by 3": 8, **BEFORE}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_is_one_call_loses_hidden_units(name: Any, net: type[Net],
                                                     hold: Callable[..., ChannelGroups]) -> None:
    function, build, expected = LAYERS[name]
    found = hold(net(function, **build()), TOKENS)
    assert {group.name: len(group.channels) for group in found.groups} == expected


def test_a_computed_initial_state_shrinks_along(net: type[Net],
                                                hold: Callable[..., ChannelGroups]) -> None:
    found = hold(net(_given_state, a=nn.Linear(4, 6), b=nn.Linear(8, 4), c=nn.Linear(4, 8),
                     r=nn.LSTM(6, 8, batch_first=True)), TOKENS)
    slices = {group.name: set(group.slices) for group in found.groups}
    assert {("c.weight", 0), ("r.weight_hh_l0", 1), ("b.weight", 1)} <= slices["c.weight"]


def test_steps_are_not_channels(net: type[Net], hold: Callable[..., ChannelGroups]) -> None:
    found = hold(net(_channels_as_steps, **layer(nn.GRU, inputs=4)()), TOKENS)
    assert {group.name for group in found.groups} == {"r.weight_ih_l0 by 3"}
    assert found.kept["c.weight"] == "gru steps over it"


def test_a_projected_lstm_stays_by_name(net: type[Net],
                                        hold: Callable[..., ChannelGroups]) -> None:
    found = hold(net(lambda m, x: m.d(m.b(m.r(m.a(x))[0].mean(1))), d=nn.Linear(4, 2),
                     **layer(nn.LSTM, 3, proj_size=3, num_layers=2)()), TOKENS)
    assert {group.name for group in found.groups} == {"b.weight"}
    reason = "lstm is an LSTM with proj_size, which has no slicing rule"
    assert {found.kept[name] for name in ("a.weight", "r.weight_ih_l1", "r.weight_hr_l0")} \
        == {reason}


def test_a_state_that_is_an_input_stays_by_name(net: type[Net]) -> None:
    program = Program.capture(net(lambda m, x, state: m.b(m.r(m.a(x), state)[0].mean(1)),
                                  **layer(nn.GRU)()), (TOKENS, torch.zeros(1, 1, 8)),
                              batch_dims={"inputs_1": 1})
    found = find_groups(program)
    assert [group.name for group in found.groups] == ["a.weight"]
    assert found.kept["r.weight_ih_l0"] == "gru starts from a fixed state"
