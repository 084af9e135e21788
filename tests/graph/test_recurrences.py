"""Recurrent layers: stacked ones are split, and shapes are computed without unrolling the steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn

from edgewright.graph import (
    keep_recurrent_layers_whole,
    op_name,
    ops,
    refresh_shapes,
    shape_of,
)
from edgewright.program import Program

KINDS = [nn.GRU, nn.LSTM, nn.RNN]


def recurrent_calls(program: Program) -> list[Any]:
    return [node for node in program.calls() if node.target in ops.RECURRENT_LAYERS]


def last_states(result: Any) -> list[Any]:
    states = result[1] if isinstance(result[1], tuple) else (result[1],)
    return [result[0], *states]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_stack_becomes_one_call_per_layer(kind: Any, batch_first: bool, bidirectional: bool,
                                            net: type[Net]) -> None:
    def forward(m: Any, x: Any) -> Any:
        steps, *states = last_states(m.r(x if batch_first else x.transpose(0, 1)))
        states = [state.transpose(0, 1) for state in states]
        return steps if batch_first else steps.transpose(0, 1), *states

    model = net(forward, r=kind(4, 6, 3, bidirectional=bidirectional, batch_first=batch_first))
    program = Program.capture(model.eval(), torch.randn(2, 5, 4))
    assert [node.name[-3:] for node in recurrent_calls(program)] == ["_l0", "_l1", "_l2"]
    x = torch.randn(3, 5, 4)
    torch.testing.assert_close(list(program.run(x)), list(model(x)))


def test_training_draws_the_same_dropout(net: type[Net]) -> None:
    model = net(lambda m, x: m.r(x)[0], r=nn.GRU(4, 6, 3, dropout=0.5, batch_first=True))
    program = Program.capture(model, torch.randn(2, 5, 4))
    x = torch.randn(3, 5, 4)
    torch.manual_seed(1)
    expected = model.train()(x)
    torch.manual_seed(1)
    torch.testing.assert_close(program.module(train=True)(x), expected)
    assert not torch.equal(program.run(x), expected)


def test_single_states_of_a_stack_are_read_from_their_layers(net: type[Net]) -> None:
    model = net(lambda m, x: m.r(x)[1][-2] * m.r(x)[1][0],
                r=nn.GRU(4, 6, 2, bidirectional=True, batch_first=True))
    program = Program.capture(model, torch.randn(2, 5, 4))
    assert "cat" not in {op_name(node) for node in program.calls()}
    x = torch.randn(3, 5, 4)
    torch.testing.assert_close(program.run(x), model.eval()(x))


def test_an_initial_state_of_a_stack_is_divided(net: type[Net]) -> None:
    model = net(lambda m, x, state: m.r(x, state.transpose(0, 1))[0],
                r=nn.GRU(4, 6, 2, bidirectional=True, batch_first=True))
    program = Program.capture(model, (torch.randn(2, 5, 4), torch.randn(2, 4, 6)))
    x, state = torch.randn(3, 5, 4), torch.randn(3, 4, 6)
    torch.testing.assert_close(program.run(x, state), model.eval()(x, state))


def test_a_single_layer_stays_as_it_is(net: type[Net]) -> None:
    program = Program.capture(nn.GRU(4, 6, batch_first=True), torch.randn(2, 5, 4))
    assert [node.name for node in recurrent_calls(program)] == ["gru"]


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_computed_without_steps(kind: Any, net: type[Net]) -> None:
    model = net(lambda m, x: m.r(x)[0], r=kind(4, 6, bidirectional=True, batch_first=True))
    program = Program.capture(model, torch.randn(2, 5, 4), dynamic={"inputs_0": {1: (4, 5000)}})
    refresh_shapes(program.graph_module)
    item = next(iter(recurrent_calls(program)[0].users))
    assert shape_of(item, 7) == (7, 5, 12)
    assert not isinstance(item.meta["val"].shape[1], int)


def test_torch_is_left_as_it_was() -> None:
    kernels = {operator: dict(operator.py_kernels) for operator in ops.RECURRENT_LAYERS}
    table = {operator: torch._decomp.decomposition_table[operator] for operator in kernels}

    def fail() -> None:
        with keep_recurrent_layers_whole():
            assert all(dict(operator.py_kernels) != before for operator, before in kernels.items())
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert {operator: dict(operator.py_kernels) for operator in kernels} == kernels
    assert {operator: torch._decomp.decomposition_table[operator] for operator in table} == table
