"""Criteria see the states that a recurrent layer feeds back to itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import nn
from torch.func import functional_call

from edgewright.channels import find_groups
from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.pruning.criteria import ScoringContext
from edgewright.pruning.criteria._gate_gradients import gate_gradients
from edgewright.pruning.criteria._layer_inputs import find_layer_inputs
from edgewright.pruning.criteria._recurrent_steps import run_steps
from edgewright.task import Task

WIDTH, STEPS = 6, 5
X, Y = torch.randn(7, STEPS, 4, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 3
TASK = Task((X, Y), val=(X[:4], Y[:4]), test=(X[:3], Y[:3]))
KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}


def build(net: type[Net], name: str, **settings: Any) -> Any:
    if name == "rnn_relu":
        settings["nonlinearity"] = "relu"
    directions = 2 if settings.get("bidirectional") else 1
    return net(lambda m, x: m.b(m.r(x)[0][:, -1]), b=nn.Linear(directions * WIDTH, 3),
               r=KINDS[name](4, WIDTH, batch_first=True, **settings)).eval()


def context_of(model: Any) -> ScoringContext:
    program = Program.capture(model, X[:2])
    return ScoringContext(program, find_groups(program), "fisher", TASK.train, 0, Classification())


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("has_biases", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_steps_compute_what_the_layer_does(name: str, has_biases: bool,
                                           bidirectional: bool) -> None:
    directions = 2 if bidirectional else 1
    gates = {"lstm": 4, "gru": 3}.get(name, 1) * WIDTH
    sizes = [(gates, 4), (gates, WIDTH), *([(gates,)] * 2 if has_biases else [])] * directions
    states = [torch.randn(directions, 7, WIDTH) for _ in range(2 if name == "lstm" else 1)]
    target = getattr(torch.ops.aten, name).input
    for batch_first in (True, False):
        arguments = (X if batch_first else X.transpose(0, 1),
                     states if name == "lstm" else states[0], [torch.randn(s) for s in sizes],
                     has_biases, 1, 0.0, False, bidirectional, batch_first)
        torch.testing.assert_close(run_steps(target, arguments, lambda state: state),
                                   target(*arguments), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_a_gate_covers_readers_and_the_layer_itself(name: str, bidirectional: bool,
                                                    net: type[Net]) -> None:
    """It scales the columns of the head and of every hidden weight: differentiated sample by sample."""
    model = build(net, name, bidirectional=bidirectional)
    context = context_of(model)
    found = torch.cat(list(gate_gradients(context, context.summed_loss)))
    scaled = [key for key, _ in model.named_parameters() if "hh" in key and "weight" in key]

    def loss(gate: Any, sample: int) -> Any:
        tensors = dict(model.named_parameters())
        weights = {key: tensors[key] * gate for key in scaled}
        head = tensors["b.weight"] * gate.repeat(2 if bidirectional else 1)
        logits = functional_call(model, {**weights, "b.weight": head}, (X[sample:sample + 1],))
        return F.cross_entropy(logits, Y[sample:sample + 1])

    expected = torch.stack([torch.autograd.functional.jacobian(
        lambda gate, sample=sample: loss(gate, sample), torch.ones(WIDTH)) for sample in range(7)])
    torch.testing.assert_close(found, expected.double(), rtol=1e-3, atol=1e-5)
    assert expected.abs().max() > 1e-2


@pytest.mark.parametrize("criterion", ["gauss_newton", "taylor", "fisher", "activation", "apoz",
                                       "redundancy", "magnitude", "lamp"])
def test_a_unit_that_only_the_layer_itself_reads_counts(
        criterion: str, net: type[Net], scores_of: Callable[..., dict[str, list[float]]]) -> None:
    """The head ignores unit 0, on which unit 1 depends, and unit 5, on which nothing does."""
    torch.manual_seed(0)
    model = build(net, "gru")
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_()
        model.b.weight[:, [0, 5]] = 0
        model.r.weight_hh_l0[:, 5] = 0
        model.r.weight_ih_l0[5::WIDTH] = 0
        model.r.weight_hh_l0[5::WIDTH] = 0
        model.r.bias_ih_l0[5::WIDTH] = model.r.bias_hh_l0[5::WIDTH] = 0
    scores = scores_of(Program.capture(model, X[:2]), TASK, criterion=criterion)
    first, *_, last = scores["r.weight_ih_l0 by 3"]
    assert first > last
    assert last == pytest.approx(0, abs=1e-6)


def test_a_residual_layer_is_read_twice(net: type[Net]) -> None:
    """Its input and its state have the same channels, but are added and not multiplied."""
    model = net(lambda m, x: m.b(m.a(x) + m.r(m.a(x))[0]).mean(1), a=nn.Linear(4, WIDTH),
                r=nn.GRU(WIDTH, WIDTH, batch_first=True), b=nn.Linear(WIDTH, 3))
    inputs = find_layer_inputs(context_of(model))
    assert [(each.node.name, each.is_state) for each in inputs] == [
        ("gru", False), ("gru", True), ("linear_2", False)]
