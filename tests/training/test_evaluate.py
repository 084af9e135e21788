from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import ModelError
from edgewright.task import TensorSplit
from edgewright.training import as_outputs, evaluate_module, predict


class TwoExits(nn.Module):
    """The second output is the input; the first is shifted by one class; noisy in training."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Any:
        x = self.dropout(x)
        return x.roll(1, dims=1), x


SPLIT = TensorSplit(torch.eye(4).repeat(5, 1), torch.tensor([0, 1, 2, 0] * 5))


def test_the_accuracy_of_each_output_whatever_the_batch_size() -> None:
    for batch_size in (1, 3, 256):
        assert evaluate_module(TwoExits(), SPLIT, batch_size=batch_size) == (0.25, 0.75)


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_is_restored(mode: bool) -> None:
    module = TwoExits().train(mode)
    evaluate_module(module, SPLIT)
    assert module.training is mode
    assert module.dropout.training is mode


def test_the_mode_is_restored_after_an_error() -> None:
    module = nn.Linear(3, 3).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluate_module(module, SPLIT)
    assert module.training


def test_predictions_are_in_order() -> None:
    found = predict(TwoExits(), SPLIT, batch_size=3)
    assert torch.equal(found.outputs[1], torch.eye(4).repeat(5, 1))
    assert torch.equal(found.outputs[0], torch.eye(4).repeat(5, 1).roll(1, dims=1))
    assert found.targets.tolist() == [0, 1, 2, 0] * 5


@pytest.mark.parametrize("result", [{"logits": torch.zeros(1)}, (), [torch.zeros(1), None], "text"])
def test_outputs_that_are_not_logits_raise(result: Any) -> None:
    with pytest.raises(ModelError, match=f"the model returned a {type(result).__name__}; expected"):
        as_outputs(result)
