"""A captured module switches between training and evaluation as the model does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.capture import CapturedModule
from edgewright.program import Program


@pytest.fixture
def dropping() -> Any:
    return Program.capture(nn.Sequential(nn.Dropout(0.5), nn.Flatten()), torch.zeros(1, 1000))


def test_dropout_is_active_in_training_only(dropping: Any) -> None:
    module, ones = dropping.module(), torch.ones(2, 1000)
    assert torch.equal(module(ones), ones)
    module.train()
    dropped = module(ones)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < float((dropped == 0).float().mean()) < 0.6
    module.eval()
    assert torch.equal(module(ones), ones)


@pytest.mark.parametrize("layer", [nn.Dropout2d(0.5), nn.AlphaDropout(0.5),
                                   nn.FeatureAlphaDropout(0.5), nn.Dropout(0.5, inplace=True)])
def test_every_kind_of_dropout_switches_mode(layer: Any) -> None:
    module = Program.capture(layer, torch.zeros(1, 50, 3, 3)).module()
    ones = torch.ones(2, 50, 3, 3)
    assert torch.equal(module(ones.clone()), ones)
    assert not torch.equal(module.train()(ones.clone()), ones)


def test_batch_norm_uses_and_updates_statistics_in_training(small_program: Program) -> None:
    module, x = small_program.module(), torch.randn(6, 3, 8, 8) * 3 + 1
    before = module.get_buffer("1.running_mean").clone()
    module(x)
    assert torch.equal(module.get_buffer("1.running_mean"), before)
    module.train()(x)
    features = nn.functional.conv2d(x, module.get_parameter("0.weight"),
                                    module.get_parameter("0.bias"))
    expected = 0.9 * before + 0.1 * features.mean((0, 2, 3))
    torch.testing.assert_close(module.get_buffer("1.running_mean"), expected)


@pytest.mark.parametrize("norm", [
    nn.BatchNorm1d(4, track_running_stats=False),
    nn.InstanceNorm1d(4, affine=True),
    nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
])
def test_norms_switch_as_in_the_model(norm: Any) -> None:
    model = copy.deepcopy(norm).eval()
    module = Program.capture(model, torch.zeros(1, 4, 5)).module()
    x = torch.randn(6, 4, 5) * 2 + 3
    for mode in (False, True, False):
        torch.testing.assert_close(module.train(mode)(x), model.train(mode)(x))


def test_a_deep_copy_is_independent(small_program: Program) -> None:
    module = small_program.module(train=True)
    twin = copy.deepcopy(module)
    assert isinstance(twin, CapturedModule)
    assert twin.training
    x = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(twin(x), module(x))
    with torch.no_grad():
        twin.get_parameter("5.weight").zero_()
    assert bool(module.get_parameter("5.weight").any())
    torch.testing.assert_close(twin.eval()(x), twin.get_parameter("5.bias").expand(4, 5))
    assert module.training
    assert any(node.args[5] for node in module.graph.nodes if "batch_norm" in node.name)


def test_a_module_does_not_share_tensors_with_its_program(small_program: Program) -> None:
    module = small_program.module()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert all(float(value.abs().sum()) > 0 for value in small_program.state_dict().values())


def test_frozen_parameters_stay_frozen(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    program = Program.capture(model, torch.zeros(1, 4))
    program.save(tmp_path / "p.pt2")
    for found in (program, program.copy(), Program.load(tmp_path / "p.pt2"),
                  program.with_state(program.state_dict())):
        module = found.module(train=True)
        frozen = {name for name, value in module.named_parameters() if not value.requires_grad}
        assert frozen == {"0.weight", "0.bias"}
        assert copy.deepcopy(module).get_parameter("2.weight").requires_grad
    assert model[2].weight.requires_grad


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_dropout_between_recurrent_layers_switches_mode(layer: Any) -> None:
    model = layer(4, 8, num_layers=3, dropout=0.5, batch_first=True)
    module = Program.capture(model, torch.zeros(1, 5, 4)).module()
    x = torch.randn(2, 5, 4)
    assert torch.equal(module(x)[0], module(x)[0])
    torch.testing.assert_close(module(x)[0], model.eval()(x)[0])
    torch.manual_seed(3)
    found = module.train()(x)[0]
    torch.manual_seed(3)
    torch.testing.assert_close(found, model.train()(x)[0])
    assert not torch.equal(found, module(x)[0])
    assert torch.equal(module.eval()(x)[0], module(x)[0])


def test_rrelu_switches_mode() -> None:
    model, x = nn.RReLU(0.1, 0.9), -torch.ones(2, 100)
    module = Program.capture(model, torch.zeros(1, 100)).module()
    torch.testing.assert_close(module(x), torch.full((2, 100), -0.5))
    assert len(module.train()(x).unique()) > 50


def test_train_returns_the_module_and_is_idempotent(small_program: Program) -> None:
    module = small_program.module()
    assert module.train() is module
    code = module.code
    assert module.train().code == code
    assert module.eval().code == small_program.module().code
