"""The layer inputs through which channels are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.channels import find_groups
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.pruning.criteria import ScoringContext
from edgewright.pruning.criteria._layer_inputs import find_layer_inputs, unique_operands
from edgewright.task import Task


def layer_inputs_of(program: Program) -> Any:
    return find_layer_inputs(ScoringContext(program, find_groups(program), "fisher", None, 0))


def test_residual_stream_is_read_by_every_layer_on_it(coupled: dict[str, Program]) -> None:
    inputs = layer_inputs_of(coupled["residual"])
    assert [str(layer_input.node.args[1]) for layer_input in inputs] == ["one_weight", "two_weight",
                                                          "wide_weight", "head_weight"]
    assert [(layer_input.dim, layer_input.batch, layer_input.size) for layer_input in inputs] == [
        (1, 0, 4), (1, 0, 6), (1, 0, 4), (1, 0, 8)]


def test_operand_of_two_layers_is_one_activation() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).relu()
            return self.a(x) + self.b(x)

    inputs = layer_inputs_of(Program.capture(Fork(), torch.zeros(1, 4)))
    assert len(inputs) == 2
    assert [layer_input.operand.name for layer_input in unique_operands(inputs)] == ["relu"]


@pytest.mark.parametrize("criterion", ["fisher", "activation", "apoz", "redundancy"])
def test_group_without_layer_input_is_rejected(scores_of: Callable[..., dict[str, list[float]]],
                                               criterion: str) -> None:
    x, y = torch.rand(8, 4), torch.arange(8) % 3
    program = Program.capture(WeightedSum(), torch.zeros(1, 4))
    assert "a.weight" in scores_of(program, criterion="magnitude")
    with pytest.raises(UsageError, match=f"criterion='{criterion}' needs activations, but no "
                                         "layer reads those of a.weight; use a criterion on "
                                         "weights"):
        scores_of(program, Task((x, y), val=(x[:4], y[:4]), test=(x[:3], y[:3])),
                  criterion=criterion)


class WeightedSum(nn.Module):
    """Channels that no layer reads: they are multiplied by a parameter and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 6), nn.Linear(4, 8), nn.Linear(8, 3)
        self.weights = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(x).relu()) * (self.a(x) * self.weights).sum(-1, keepdim=True)


def test_suggested_ignore_excludes_the_group_without_layer_input() -> None:
    program = Program.capture(WeightedSum(), torch.zeros(1, 4))
    with pytest.raises(UsageError, match="no layer reads those of a.weight; use a criterion on "
                                         r"weights \('magnitude'\), or exclude the group with "
                                         r"ignore=\('weights',\)"):
        layer_inputs_of(program)
    groups = find_groups(program, ("weights",))
    inputs = find_layer_inputs(ScoringContext(program, groups, "fisher", None, 0))
    assert [str(layer_input.node.args[1]) for layer_input in inputs] == ["head_weight"]
