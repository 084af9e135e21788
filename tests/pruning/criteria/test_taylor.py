"""First-order changes of the loss, against central differences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Mixed
from torch import Tensor, nn

from edgewright.errors import ModelError
from edgewright.program import Program
from edgewright.task import Task


def derivative(model: nn.Module, batch: Any, tensor: Any, index: Any) -> Any:
    """Derivative of the loss with respect to a factor on the slice."""
    target = model.get_parameter(tensor)
    original = target.detach().clone()
    losses = []
    for factor in (1 + 1e-5, 1 - 1e-5):
        with torch.no_grad():
            target[index] *= factor
            losses.append(float(F.cross_entropy(model(batch[0]), batch[1])))
            target.copy_(original)
    return (losses[0] - losses[1]) / 2e-5


def test_score_is_the_squared_derivative_of_scaling_a_channel(mixed: Mixed, mixed_program: Program, mixed_task: Task,
                                                              scores_of: Callable[..., dict[str, list[float]]], channel_slices: dict[str, Callable[[int], list[tuple[str, Any]]]]) -> None:
    found = scores_of(mixed_program, mixed_task, criterion="taylor")
    model = copy.deepcopy(mixed).double()
    batches = [(batch.inputs[0].double(), batch.targets) for batch in mixed_task.train.batches(64)]
    assert [len(targets) for _, targets in batches] == [64, 16]
    for name, where in channel_slices.items():
        for channel, score in enumerate(found[name]):
            want = sum(derivative(model, batch, *channel_slice) ** 2
                       for batch in batches for channel_slice in where(channel))
            assert score == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "obd"])
def test_losses_of_all_outputs_are_averaged(mixed: Mixed, mixed_task: Task,
                                            scores_of: Callable[..., dict[str, list[float]]],
                                            criterion: str) -> None:
    class TwoOutputs(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Any:
            logits = self.model(x)
            return logits, logits

    two, one = (Program.capture(model, torch.zeros(1, 2, 4, 4)) for model in (TwoOutputs(mixed), mixed))
    with pytest.raises(ModelError, match="the model returns 2 outputs"):
        scores_of(two, mixed_task, criterion=criterion)
    staged = Program(two.graph_module, two.example_inputs, exits=1)
    found = scores_of(staged, mixed_task, criterion=criterion)
    for name, scores in scores_of(one, mixed_task, criterion=criterion).items():
        assert found[f"model.{name}"] == pytest.approx(scores, rel=1e-5)
