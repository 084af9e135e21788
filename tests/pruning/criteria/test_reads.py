"""Where channels are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.channels import find_groups
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.pruning.criteria import Subject
from edgewright.pruning.criteria._reads import distinct_operands, find_reads
from edgewright.task import Task


def reads_of(program: Program) -> Any:
    return find_reads(Subject(program, find_groups(program), "fisher", None, 0))


def test_a_stream_is_read_by_every_layer_on_it(coupled: dict[str, Program]) -> None:
    reads = reads_of(coupled["residual"])
    assert [str(read.node.args[1]) for read in reads] == ["one_weight", "two_weight",
                                                          "wide_weight", "head_weight"]
    assert [(read.dim, read.batch, read.size) for read in reads] == [
        (1, 0, 4), (1, 0, 6), (1, 0, 4), (1, 0, 8)]


def test_an_operand_that_two_layers_read_is_one_activation() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).relu()
            return self.a(x) + self.b(x)

    reads = reads_of(Program.capture(Fork(), torch.zeros(1, 4)))
    assert len(reads) == 2
    assert [read.operand.name for read in distinct_operands(reads)] == ["relu"]


@pytest.mark.parametrize("criterion", ["fisher", "activation", "apoz", "redundancy"])
def test_a_group_that_no_activation_carries_is_refused(scores_of: Callable[..., dict[str, list[float]]],
                                                       criterion: str) -> None:
    x, y = torch.rand(8, 4), torch.arange(8) % 3
    program = Program.capture(Weighed(), torch.zeros(1, 4))
    assert "a.weight" in scores_of(program, criterion="magnitude")
    with pytest.raises(UsageError, match=f"criterion='{criterion}' looks at activations, and no "
                                         "layer reads those of a.weight; use a criterion on "
                                         "weights"):
        scores_of(program, Task((x, y), val=(x[:4], y[:4]), test=(x[:3], y[:3])),
                  criterion=criterion)


class Weighed(nn.Module):
    """Channels that no layer reads: they are multiplied by numbers of their own and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 6), nn.Linear(4, 8), nn.Linear(8, 3)
        self.weights = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(x).relu()) * (self.a(x) * self.weights).sum(-1, keepdim=True)


def test_the_name_to_ignore_keeps_what_no_layer_reads_out_of_it() -> None:
    program = Program.capture(Weighed(), torch.zeros(1, 4))
    with pytest.raises(UsageError, match="no layer reads those of a.weight; use a criterion on "
                                         r"weights \('magnitude'\), or keep it whole with ignore="
                                         r"\('weights',\)"):
        reads_of(program)
    groups = find_groups(program, ("weights",))
    reads = find_reads(Subject(program, groups, "fisher", None, 0))
    assert [str(read.node.args[1]) for read in reads] == ["head_weight"]
