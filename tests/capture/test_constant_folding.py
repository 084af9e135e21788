"""Constants that the model computes are folded: weights, masks, positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils as classic
from tests.programs import Net
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from edgewright.capture import folded_tensors
from edgewright.channels import apply_to
from edgewright.errors import ModelError
from edgewright.program import Program
from edgewright.pruning import ChannelPruning
from edgewright.pruning import prune as prune_channels
from edgewright.quantization import quantize
from edgewright.task import Task


class StandardizedConv(nn.Conv1d):
    """Weight standardisation by a batch norm of the weight, as timm's StdConv2d does it."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(rows, None, None, training=True, momentum=0.0)
        return F.conv1d(x, weight.reshape_as(self.weight), self.bias, padding=1)


class LowRankAdapterConv(nn.Conv1d):
    """A low-rank adapter that was not merged."""

    def __init__(self, inputs: Any, outputs: Any, size: Any, **options: Any) -> None:
        super().__init__(inputs, outputs, size, **options)
        self.down = nn.Parameter(torch.randn(2, inputs * size))
        self.up = nn.Parameter(torch.randn(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight + (self.up @ self.down).view_as(self.weight), self.bias,
                        padding=1)


class ScaledConv(nn.Module):
    """Equalised learning rates: a parameter by a number."""

    def __init__(self, inputs: Any, outputs: Any, size: Any, padding: Any) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.randn(outputs, inputs, size))
        self.shift = nn.Parameter(torch.randn(outputs))
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.raw * 0.1, self.shift * 0.1, padding=self.padding)


def conv(inputs: Any, outputs: Any) -> Any:
    return nn.Conv1d(inputs, outputs, 3, padding=1)


WEIGHTS = {
    "weight_norm": lambda i, o: parametrizations.weight_norm(conv(i, o)),
    "old_weight_norm": lambda i, o: classic.weight_norm(conv(i, o)),
    "spectral_norm": lambda i, o: parametrizations.spectral_norm(conv(i, o)),
    "old_spectral_norm": lambda i, o: classic.spectral_norm(conv(i, o)),
    "orthogonal": lambda i, o: parametrizations.orthogonal(conv(i, o)),
    "mask": lambda i, o: prune.l1_unstructured(conv(i, o), "weight", 0.5),
    "standardised": lambda i, o: StandardizedConv(i, o, 3, padding=1),
    "adapter": lambda i, o: LowRankAdapterConv(i, o, 3, padding=1),
    "scaled": lambda i, o: ScaledConv(i, o, 3, padding=1),
}


def network(make: Any) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(make(8, 16), nn.ReLU(), make(16, 16), nn.ReLU(),
                         nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 4)).eval()


def sequences(batch: int = 3) -> Any:
    return torch.randn(batch, 8, 12)


def targets(program: Program) -> Any:
    return [str(node.target) for node in program.calls()]


@pytest.fixture(scope="module")
def plain() -> Any:
    return Program.capture(network(conv), sequences())


@pytest.mark.parametrize("kind", WEIGHTS)
def test_computed_weights_are_stored_under_their_layers_names(kind: Any, plain: Any) -> None:
    model, x = network(WEIGHTS[kind]), sequences()
    program = Program.capture(model, x)
    torch.testing.assert_close(program.run(x), model(x).detach())
    assert targets(program) == targets(plain)
    shapes = {name: value.shape for name, value in program.state_dict().items()}
    assert shapes == {name: value.shape for name, value in plain.state_dict().items()}
    assert program.costs().weight_bytes == plain.costs().weight_bytes
    assert "0.weight" in folded_tensors(program.graph_module)


@pytest.mark.parametrize("kind", ["old_weight_norm", "scaled"])
def test_computed_weights_are_quantized_and_pruned(kind: str) -> None:
    x, y = sequences(32), torch.arange(32) % 4
    task = Task((x, y), (x[:8], y[:8]), (x[8:24], y[8:24]))
    program = Program.capture(network(WEIGHTS[kind]), x)
    state = quantize(program, task).state_dict()
    assert state["0.weight"].dtype == state["2.weight"].dtype == torch.int8
    pruned = prune_channels(program, None, ChannelPruning(
        criterion="magnitude", ratio=0.5, round_to=1, ignore=("0.weight",)))
    assert pruned.state_dict()["0.weight"].shape == (16, 8, 3)
    assert pruned.state_dict()["2.weight"].shape[0] < 16


def test_folded_tensors_survive_saving_and_copying(tmp_path: Path) -> None:
    program = Program.capture(network(WEIGHTS["weight_norm"]), sequences())
    program.copy().save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    assert folded_tensors(loaded.graph_module) == {
        f"{place}.weight": (f"{place}.parametrizations.weight.original1",
                            f"{place}.parametrizations.weight.original0") for place in "02"}


@pytest.mark.parametrize(("kind", "merge"), [
    ("weight_norm", lambda m: nn.utils.parametrize.remove_parametrizations(m, "weight")),
    ("old_weight_norm", classic.remove_weight_norm),
    ("mask", lambda m: prune.remove(m, "weight")),
])
def test_apply_to_names_weights_that_the_models_code_computes(kind: str, merge: Any) -> None:
    model, x = network(WEIGHTS[kind]), sequences()
    program = Program.capture(model, x)
    trained = program.with_state({name: value * 1.1
                                  for name, value in program.state_dict().items()})
    with pytest.raises(ModelError, match=r"has no 0\.weight: its code computes 0\.weight from"):
        apply_to(trained, model)
    merge(model[0])
    merge(model[2])
    apply_to(trained, model)
    torch.testing.assert_close(model(x).detach(), trained.run(x))


def test_apply_to_names_an_adapter_that_is_not_merged() -> None:
    model = network(WEIGHTS["adapter"])
    with pytest.raises(ModelError, match=r"computes 0\.weight from 0\.weight, 0\.up, 0\.down"):
        apply_to(Program.capture(model, sequences()), model)


def test_a_weight_computed_from_frozen_tensors_is_frozen(net: type[Net]) -> None:
    model = network(WEIGHTS["weight_norm"])
    model[0].requires_grad_(False)
    parameters = dict(Program.capture(model, sequences()).graph_module.named_parameters())
    assert not parameters["0.weight"].requires_grad
    assert parameters["2.weight"].requires_grad
    assert parameters["6.weight"].requires_grad


def test_only_zeros_of_a_mask_are_marked_sparse(net: type[Net]) -> None:
    masked = Program.capture(network(WEIGHTS["mask"]), sequences())
    assert masked.sparsity == pytest.approx({"0.weight": 0.5, "2.weight": 0.5}, abs=0.01)
    model = network(WEIGHTS["scaled"])
    nn.init.zeros_(model[0].raw)  # a zero by its start, not by a mask
    assert Program.capture(model, sequences()).sparsity == {}


@pytest.mark.parametrize(("function", "name"), [
    (lambda m, x: x + torch.full((4, 4), -torch.inf).triu(1), "triu"),
    (lambda m, x: x + x.new_full((4, 4), -torch.inf).triu(1), "triu"),
    (lambda m, x: x.masked_fill(torch.ones(4, 4).tril() == 0, -torch.inf), "eq"),
    (lambda m, x: torch.where(torch.ones_like(x[0]).tril() > 0, x, torch.tensor(-9.0)), "gt"),
    (lambda m, x: x + (torch.arange(x.shape[1]) * 0.1).sin(), "sin"),
], ids=["full", "new_full", "masked_fill", "where", "arange"])
def test_masks_and_positions_made_in_forward_are_stored(net: type[Net],
                                                        function: Callable[..., Any],
                                                        name: str) -> None:
    model = net(function)
    program = Program.capture(model, torch.zeros(1, 4, 4))
    x = torch.randn(3, 4, 4)
    torch.testing.assert_close(program.run(x), model(x))
    assert any(held.startswith(name) for held in program.state_dict())
    assert len(targets(program)) == 1


def mask_written_before_its_read(m: Any, x: Any) -> Any:
    mask = torch.zeros(4)
    mask[1:3] = -9.0
    return x + mask


def constant_written_by_the_input(m: Any, x: Any) -> Any:
    total = torch.zeros(4)
    total += x.mean(0)
    return x + total + torch.ones(4).cumsum(0)


def mask_written_after_its_read(m: Any, x: Any) -> Any:
    mask = torch.zeros(4)
    y = x + mask
    mask.fill_(2.0)
    return y * mask


def mask_in_no_grad(m: Any, x: Any) -> Any:
    with torch.no_grad():
        mask = torch.ones(4, 4).triu(1)
        y = x @ mask
    return x + y


@pytest.mark.parametrize(("function", "is_stored"), [
    (mask_written_before_its_read, True), (constant_written_by_the_input, False), (mask_written_after_its_read, False),
    (mask_in_no_grad, False),
], ids=["before", "by_the_input", "after", "no_grad"])
def test_constants_that_are_written_in_place_are_computed_correctly(net: type[Net], function: Any,
                                                                    is_stored: bool) -> None:
    model = net(function)
    program = Program.capture(model, torch.zeros(1, 4))
    x = torch.randn(3, 4)
    torch.testing.assert_close(program.run(x), function(None, x))
    if is_stored:
        assert len(targets(program)) == 1


def test_no_grad_regions_stop_gradients(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        with torch.no_grad():
            y = m.a(x)
        return m.b(x) + y

    module = Program.capture(net(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 4)),
                             torch.zeros(1, 4)).module(train=True)
    module(torch.randn(2, 4)).sum().backward()
    assert module.get_parameter("a.weight").grad is None
    assert module.get_parameter("b.weight").grad is not None


@pytest.mark.parametrize("function", [
    lambda m, x: x @ m.p.t(),  # only arranged: a tie would be lost
    lambda m, x: F.embedding(torch.arange(4), m.p) + x,  # only looked up
    lambda m, x: x * m.p.exp(),  # no smaller than what it is computed from
    lambda m, x: m.drop(m.p) + x,  # another value in training
], ids=["transposed", "looked_up", "scaled", "dropout"])
def test_parameters_are_not_folded_without_a_benefit(net: type[Net],
                                                     function: Callable[..., Any]) -> None:
    model = net(function, drop=nn.Dropout(0.5))
    model.p = nn.Parameter(torch.randn(4, 4))
    program = Program.capture(model, torch.zeros(1, 4, 4))
    x = torch.randn(2, 4, 4)
    torch.testing.assert_close(program.run(x), model.eval()(x).detach())
    assert torch.equal(program.state_dict()["p"], model.p)
    apply_to(program, model)


def test_a_constant_smaller_than_its_parameters_is_folded(net: type[Net]) -> None:
    model = net(lambda m, x: x + m.project(m.latents).mean(0), project=nn.Linear(16, 4))
    model.latents = nn.Parameter(torch.randn(8, 16))
    program = Program.capture(model, torch.zeros(1, 4))
    x = torch.randn(2, 4)
    torch.testing.assert_close(program.run(x), model(x).detach())
    assert {tuple(value.shape) for value in program.state_dict().values()} == {(4,)}


def test_a_mask_larger_than_a_megabyte_is_not_folded(net: type[Net]) -> None:
    program = Program.capture(net(lambda m, x: (x + torch.ones(600, 600).triu(1)).mean(1)),
                              torch.zeros(1, 600, 600))
    assert program.state_dict() == {}
    assert any("triu" in target for target in targets(program))
