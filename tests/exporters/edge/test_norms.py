"""Batch norms are folded, or replaced by a multiplication and an addition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import ModelError
from edgewright.exporters import to_executorch, to_litert
from edgewright.exporters.edge._norms import remove_batch_norms
from edgewright.program import Program


class Twice(nn.Module):
    """A norm behind a layer that is read again, one of sequences, one in front of all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(4, affine=False)
        self.third, self.conv = nn.BatchNorm1d(4), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.first(x))
        return self.third((self.second(y) + y).flatten(2))


def test_all_norms_are_removed_and_the_function_is_the_same() -> None:
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(6, 3, 5, 5) * 3 + 1
    model(x)
    for norm in (model.first, model.third):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    program = Program.capture(model.eval(), x[:1])
    plain = remove_batch_norms(program)
    assert not any("batch_norm" in node.name for node in plain.calls())
    torch.testing.assert_close(plain.run(x), program.run(x), rtol=1e-5, atol=1e-5)
    assert sum("batch_norm" in node.name for node in program.calls()) == 3


@pytest.mark.parametrize("translate", [to_executorch, to_litert])
def test_norms_without_running_statistics_are_rejected(translate: Any) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    program = Program.capture(model.eval(), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ModelError, match="batch_norm is a batch norm without running statistics: "
                                         "it normalizes over the batch, but the file takes one "
                                         "sample at a time; use track_running_stats=True"):
        translate(program)
