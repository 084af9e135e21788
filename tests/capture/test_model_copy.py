"""What is captured is a copy: whatever hangs on the model, the model is left as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils as classic
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from edgewright.capture._model_copy import copy_model
from edgewright.program import Program


class Keeping(nn.Module):
    """Keeps its activations, as a trained model may; holds what has no copy, and a hook's owner."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)
        self.lock = threading.Lock()
        self.numbers = iter([1, 2])
        self.parts: list[Any] = [self.layer, threading.Lock()]
        self.owner = Owner(self)
        self.layer.register_forward_hook(self.owner.double)
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.parts[0](x)
        self.kept.append(self.last)
        return self.drop(self.last)


class Owner:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.lock = threading.Lock()

    def double(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        return 2 * output


@pytest.fixture
def trained() -> Keeping:
    model = Keeping()
    model(torch.randn(5, 4)).sum().backward()
    return model


def test_a_model_that_keeps_activations_locks_and_hooks_is_captured(trained: Keeping) -> None:
    program = Program.capture(trained, torch.zeros(1, 4))
    x = torch.randn(3, 4)
    torch.testing.assert_close(program.run(x), trained.eval()(x).detach())


def test_the_model_is_left_as_it_was(trained: Keeping) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    last, gradient = trained.last, trained.layer.weight.grad
    Program.capture(trained, torch.zeros(1, 4))
    assert trained.training
    assert trained.drop.training
    assert trained.last is last
    assert last.grad_fn is not None
    assert len(trained.kept) == 1
    assert trained.layer.weight.grad is gradient
    torch.testing.assert_close(trained.state_dict(), before, rtol=0, atol=0)


def test_references_to_submodules_lead_to_their_copies(trained: Keeping) -> None:
    copied = copy_model(trained)
    assert isinstance(copied, Keeping)
    assert copied.parts[0] is copied.layer
    assert copied.owner.model is copied
    assert copied.parts[1] is trained.parts[1]  # a lock has no copy
    assert copied.layer.weight is not trained.layer.weight
    assert copied.kept[0].grad_fn is None
    assert copied.kept[0] is copied.last


def test_ties_are_kept() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    copied = copy_model(model)
    assert copied.get_parameter("1.weight") is copied.get_parameter("0.weight")


@pytest.mark.parametrize("make", [
    lambda: classic.weight_norm(nn.Linear(4, 3)),
    lambda: classic.spectral_norm(nn.Linear(4, 3)),
    lambda: parametrizations.orthogonal(nn.Linear(4, 3)),
    lambda: prune.l1_unstructured(nn.Linear(4, 3), "weight", 0.5),
    lambda: nn.LSTM(4, 3, batch_first=True),
    lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
], ids=["weight_norm", "spectral_norm", "orthogonal", "prune", "lstm", "transformer"])
def test_what_was_run_in_training_is_copied_whole(make: Callable[..., Any]) -> None:
    model, x = make(), torch.randn(2, 5, 4)
    model(x)
    copied = copy_model(model)
    want, have = model.eval()(x), copied(x)
    torch.testing.assert_close(have, want, rtol=0, atol=0)
    assert not {id(p) for p in copied.parameters()} & {id(p) for p in model.parameters()}


def test_a_capture_in_inference_mode_can_be_trained() -> None:
    with torch.inference_mode():
        program = Program.capture(nn.Linear(4, 3), torch.zeros(1, 4))
    module = program.module(train=True)
    module(torch.randn(2, 4)).sum().backward()
    assert module.get_parameter("weight").grad is not None
