"""Fisher information, against gradients of explicit gates, sample by sample."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Mixed
from torch import Tensor, nn

from edgewright.program import Program
from edgewright.task import Task


def gated_mixed(model: Mixed, x: Any, gates: Any) -> Any:
    """The mixed network with gates on the layer inputs of its two groups."""
    x = model.deep(model.norm(model.first(x)).relu()).relu() * gates["first.weight"][:, None, None]
    return model.last(model.head(x.flatten(1)).relu() * gates["head.weight"])


def gated_residual(model: nn.Module, x: Any, gates: Any) -> Any:
    """The residual network with gates: three layers read the stream, one the wide channels."""
    state = model.state_dict()

    def conv(name: str, value: Any) -> Any:
        return F.conv2d(value, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def norm(value: Any) -> Any:
        return F.batch_norm(value, state["norm.running_mean"], state["norm.running_var"],
                            state["norm.weight"], state["norm.bias"])

    stream, inner, edge = (gates[name][:, None, None] for name in
                           ("stem.weight", "one.weight", "wide.weight"))
    x = conv("stem", x).relu()
    x = (x + conv("two", norm(conv("one", x * stream)).relu() * inner)).relu()
    x = (F.pad(x, (0, 0, 0, 0, 2, 2)) + conv("wide", x * stream)).relu()
    read = x * torch.cat([edge[:2], stream * 1, edge[2:]])
    return F.linear(read.mean((2, 3)), state["head.weight"], state["head.bias"])


def fisher_information(forward: Any, widths: Any, task: Task) -> Any:
    """Half the mean squared derivative of each sample's loss by each gate."""
    gates = {name: torch.ones(width, dtype=torch.float64, requires_grad=True)
             for name, width in widths.items()}
    total = {name: torch.zeros(width, dtype=torch.float64) for name, width in widths.items()}
    for batch in task.train.batches(1):
        loss = F.cross_entropy(forward(batch.inputs[0].double(), gates), batch.targets)
        for name, gradient in zip(gates, torch.autograd.grad(loss, list(gates.values())),
                               strict=True):
            total[name] += gradient ** 2 / (2 * len(task.train))
    return {name: value.tolist() for name, value in total.items()}


def test_score_is_the_squared_gradient_of_a_gate_on_all_layer_inputs(mixed: Mixed, mixed_program: Program, mixed_task: Task,
                                                                     scores_of: Callable[..., dict[str, list[float]]]) -> None:
    model = copy.deepcopy(mixed).double()
    want = fisher_information(lambda x, gates: gated_mixed(model, x, gates),
                       {"first.weight": 5, "head.weight": 6}, mixed_task)
    found = scores_of(mixed_program, mixed_task, criterion="fisher")
    assert found.keys() == want.keys()
    for name, scores in want.items():
        assert found[name] == pytest.approx(scores, rel=1e-4)


def test_gradients_of_a_shared_stream_are_summed_before_squaring(coupled: dict[str, Program],
                                                                 mixed_task: Task,
                                                                 scores_of: Callable[..., dict[str, list[float]]]) -> None:
    program = coupled["residual"]
    model = copy.deepcopy(program.module()).double()
    want = fisher_information(lambda x, gates: gated_residual(model, x, gates),
                       {"stem.weight": 4, "one.weight": 6, "wide.weight": 4}, mixed_task)
    found = scores_of(program, mixed_task, criterion="fisher")
    assert found["one.weight"] == pytest.approx(want["one.weight"], rel=1e-4)
    assert found["stem.weight"] == pytest.approx(want["stem.weight"], rel=1e-4)


def test_obd_is_the_summed_saliency_of_all_weights(mixed: Mixed, mixed_program: Program,
                                                   mixed_task: Task,
                                                   scores_of: Callable[..., dict[str, list[float]]],
                                                   channel_slices: dict[str, Callable[[int], list[tuple[str, Any]]]]) -> None:
    model = copy.deepcopy(mixed).double()
    saliency = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for batch in mixed_task.train.batches(1):
        model.zero_grad()
        F.cross_entropy(model(batch.inputs[0].double()), batch.targets).backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None
            saliency[name] += (weight.grad * weight.detach()) ** 2 / (2 * len(mixed_task.train))
    found = scores_of(mixed_program, mixed_task, criterion="obd")
    for name, where in channel_slices.items():
        want = [sum(float(saliency[tensor][index].sum()) for tensor, index in where(channel))
                for channel in range(len(found[name]))]
        assert found[name] == pytest.approx(want, rel=1e-4)


class Tokens(nn.Module):
    """Two linear layers on the columns of an image, which may be folded into the batch."""

    def __init__(self, folds: Any) -> None:
        super().__init__()
        self.up, self.down, self.folds = nn.Linear(8, 6), nn.Linear(6, 3), folds

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1, 2).transpose(1, 2)
        if self.folds:
            tokens = tokens.reshape(-1, 8)
        return self.down(self.up(tokens).relu()).reshape(-1, 4, 3).mean(1)


@pytest.mark.parametrize("criterion", ["fisher", "activation", "apoz", "redundancy"])
def test_samples_may_have_several_rows(mixed_task: Task,
                                       scores_of: Callable[..., dict[str, list[float]]],
                                       criterion: str) -> None:
    torch.manual_seed(0)
    model = Tokens(False)
    separate = Program.capture(model, torch.zeros(1, 2, 4, 4))
    model.folds = True
    folded = Program.capture(model, torch.zeros(1, 2, 4, 4))
    want = scores_of(separate, mixed_task, criterion=criterion)["up.weight"]
    found = scores_of(folded, mixed_task, criterion=criterion)["up.weight"]
    assert found == pytest.approx(want, rel=1e-5)
