"""One set of names: a program's tensors, whatever the model kept out of its own state dict."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.channels import apply_to
from edgewright.errors import ModelError
from edgewright.program import Program


class Rotary(nn.Module):
    """A table that is no part of the state dict, as of rotary embeddings and window indices."""

    cos: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cos", torch.linspace(1, 2, 8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.cos


class Model(nn.Module):
    """Every way of keeping a tensor: tied, unread, shared, plain, counted, not persistent."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.rotary = nn.ModuleList([Rotary(), Rotary()])
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.unread = nn.Linear(3, 3)
        self.plain = torch.full((8,), 0.5)
        self.register_buffer("position_ids", torch.arange(5).flip(0), persistent=False)
        shared = torch.full((8,), 3.0)
        self.register_buffer("one", shared)
        self.register_buffer("other", shared)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.embed(self.position_ids) * self.plain
        for part in self.rotary:
            x = part(x) * self.one
        return self.head(self.norm(x.mean(1)) + self.other)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return Model().eval()


@pytest.fixture
def program(model: Any) -> Any:
    return Program.capture(model, torch.zeros(1, 5, dtype=torch.int64))


IDS = torch.tensor([[1, 2, 3, 4, 5], [9, 8, 7, 6, 0]])


def reloaded(program: Program, tmp_path: Any) -> Any:
    program.save(tmp_path / "p.pt2")
    return Program.load(tmp_path / "p.pt2")


def test_every_tensor_is_in_the_state_dict_of_program_module_and_copies(program: Any,
                                                                        tmp_path: Path) -> None:
    names = {"head.weight", "rotary.0.cos", "rotary.1.cos", "norm.weight", "norm.bias",
             "norm.running_mean", "norm.running_var", "plain", "position_ids", "other"}
    assert program.state_dict().keys() == names
    for other in (program.copy(), reloaded(program, tmp_path)):
        assert other.state_dict().keys() == names
    for mode in (False, True):
        assert program.module(mode).state_dict().keys() == names


@pytest.mark.parametrize("stored", [False, True])
def test_its_own_state_goes_back_in(program: Any, model: Any, tmp_path: Path, stored: bool) -> None:
    program = reloaded(program, tmp_path) if stored else program
    again = program.with_state(program.state_dict())
    torch.testing.assert_close(again.run(IDS), model(IDS))


@pytest.mark.parametrize("stored", [False, True])
def test_the_models_own_state_dict_goes_in_and_its_tables_stay(program: Any, model: Any,
                                                               tmp_path: Path,
                                                               stored: bool) -> None:
    program = reloaded(program, tmp_path) if stored else program
    with torch.no_grad():
        for tensor in (*model.parameters(), model.one, model.norm.running_mean):
            tensor.add_(0.25)
    assert not model.state_dict().keys() & {"plain", "position_ids", "rotary.0.cos"}
    torch.testing.assert_close(program.with_state(model.state_dict()).run(IDS), model(IDS))


def test_a_tied_tensor_has_one_value(program: Any, model: Any) -> None:
    state = dict(model.state_dict())
    state["embed.weight"] = state["embed.weight"] + 1
    with pytest.raises(ModelError, match=r"embed\.weight and head\.weight are one tensor in the "
                                         r"model and two different ones here; untie them"):
        program.with_state(state)
    del state["head.weight"]
    assert torch.equal(program.with_state(state).state_dict()["head.weight"],
                       state["embed.weight"])


@pytest.mark.parametrize(("change", "message"), [
    (lambda state: state.pop("norm.bias"), r"norm\.bias is missing; give what its own"),
    (lambda state: state.pop("norm.running_var"), r"norm\.running_var is missing"),
    (lambda state: state.update(spare=torch.ones(2)), "spare is unknown"),
    (lambda state: state.update(plain=torch.ones(2)),
     r"plain has shape \(2,\), expected \(8,\)"),
    (lambda state: state.update(position_ids=torch.ones(5)),
     r"position_ids holds torch\.float32, expected torch\.int64"),
    (lambda state: state.update(plain=[1.0]), "plain is a list, expected a tensor"),
])
def test_what_does_not_fit_is_named(program: Any, change: Callable[..., Any], message: str) -> None:
    state = program.state_dict()
    change(state)
    with pytest.raises(ModelError, match=message):
        program.with_state(state)


def test_a_file_that_tells_nonsense_of_the_state_dict_is_refused(program: Any,
                                                                 tmp_path: Path) -> None:
    program.save(tmp_path / "p.pt2")
    with zipfile.ZipFile(tmp_path / "p.pt2") as source, \
            zipfile.ZipFile(tmp_path / "q.pt2", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("edgewright.json"):
                content = json.dumps({**json.loads(content), "model_state": [7]}).encode()
            target.writestr(name, content)
    with pytest.raises(ModelError, match=r"q\.pt2 says \[7\] of the model's state dict"):
        Program.load(tmp_path / "q.pt2")


def test_applying_back_leaves_the_models_state_dict_its_own(program: Any, model: Any) -> None:
    names = list(model.state_dict())
    state = program.state_dict()
    state["rotary.0.cos"] = state["rotary.0.cos"] * 2
    apply_to(program.with_state(state), model)
    assert list(model.state_dict()) == names
    assert torch.equal(model.rotary[0].cos, state["rotary.0.cos"])


class Standardized(nn.Linear):
    """Weight standardization: what is stored goes by the name of what it is computed from."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(1, keepdim=True)
        return nn.functional.linear(x, weight / weight.std(1, keepdim=True), self.bias)


@pytest.mark.parametrize("layer", [
    lambda: Standardized(8, 4),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 4)),
])
def test_weights_of_before_they_were_computed_are_refused(layer: Callable[..., Any],
                                                          tmp_path: Path) -> None:
    model, x = nn.Sequential(nn.Linear(8, 8), layer()).eval(), torch.randn(5, 8)
    program = Program.capture(model, x)
    program.save(tmp_path / "p.pt2")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    stored = torch.load(tmp_path / "weights.pt", weights_only=True)
    for held in (program, Program.load(tmp_path / "p.pt2")):
        for state in (model.state_dict(), stored):
            with pytest.raises(ModelError, match=r"it holds 1\.weight as the model's code computed "
                                                 r"it from .*load them into the model and capture"):
                held.with_state(state)
    module = program.module()
    torch.save(module.state_dict(), tmp_path / "own.pt")
    for state in (program.state_dict(), module.state_dict(),
                  torch.load(tmp_path / "own.pt", weights_only=True)):
        torch.testing.assert_close(program.with_state(state).run(x), model(x).detach())
