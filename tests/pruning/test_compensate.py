"""Compensation, against `torch.linalg.lstsq` on rows that are gathered with loops."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.channels import find_groups, remove_channels
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.pruning import ChannelPruning, prune
from edgewright.pruning._compensate import compensate
from edgewright.task import Task, TensorSplit

SAMPLES = 200


def split_of(*shape: int, seed: int = 0) -> TensorSplit:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SAMPLES, *shape, generator=generator)
    return TensorSplit((inputs,), torch.zeros(SAMPLES, dtype=torch.long))


def inputs_of(split: TensorSplit) -> Tensor:
    return next(split.batches(len(split))).inputs[0]


def repair(model: nn.Module, split: TensorSplit, group: str, channels: list[int],
           ) -> tuple[Program, Program, Program]:
    """The original, the sliced and the repaired program, for removed channels of one group."""
    program = Program.capture(model.eval(), inputs_of(split)[:1])
    groups = find_groups(program)
    labels = next(found.channels for found in groups.groups if found.name == group)
    removed = [labels[channel] for channel in channels]
    sliced = remove_channels(program, groups, removed)
    return program, sliced, compensate(program, sliced, groups, removed, split)


Model = TypeVar("Model", bound=nn.Module)


def randomized(model: Model) -> Model:
    """Set random weights and random statistics of norms."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
                if "running_var" in name:
                    tensor.copy_(tensor.abs() + 0.5)
    return model


def error(program: Program, original: Program, x: Tensor) -> float:
    return float((program.run(x) - original.run(x)).square().mean())


def test_linear_layer_is_fitted_by_ridge_regression() -> None:
    model = randomized(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))
    split = split_of(4)
    _, sliced, repaired = repair(model, split, "0.weight", [1, 4])
    kept = [0, 2, 3, 5]
    hidden = model[1](model[0](inputs_of(split))).detach().double()
    x = hidden[:, kept] - hidden[:, kept].mean(dim=0)
    y = model[2](hidden.float()).detach().double()
    ridge = 1e-2 * float(x.square().mean())
    prior = sliced.state_dict()["2.weight"].double().T
    rows = torch.cat([x, (ridge * SAMPLES) ** 0.5 * torch.eye(4, dtype=torch.float64)])
    target_rows = torch.cat([y - y.mean(dim=0), (ridge * SAMPLES) ** 0.5 * prior])
    weight = torch.linalg.lstsq(rows, target_rows).solution
    bias = y.mean(dim=0) - hidden[:, kept].mean(dim=0) @ weight
    state = repaired.state_dict()
    torch.testing.assert_close(state["2.weight"], weight.T.float(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(state["2.bias"], bias.float(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(state["0.weight"], sliced.state_dict()["0.weight"])


class Convolutions(nn.Module):
    """A strided convolution without bias between two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 5, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.second = nn.Conv2d(5, 4, 3, stride=2, padding=1, dilation=1, bias=False)
        self.last_norm = nn.BatchNorm2d(4)

    def hidden(self, x: Tensor) -> Tensor:
        return self.norm(self.first(x)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.last_norm(self.second(self.hidden(x))).mean(dim=(2, 3))


def patches(x: Tensor, stride: int) -> Tensor:
    """Rows of 3 x 3 patches, gathered with loops."""
    padded = F.pad(x, (1, 1, 1, 1))
    return torch.stack([padded[n, :, i:i + 3, j:j + 3].flatten()
                        for n in range(len(x))
                        for i in range(0, x.shape[2], stride)
                        for j in range(0, x.shape[3], stride)])


def test_convolution_is_fitted_by_ridge_regression_with_the_prior_norms() -> None:
    model, split = randomized(Convolutions()), split_of(2, 4, 4)
    _, sliced, repaired = repair(model, split, "first.weight", [0, 3])
    with torch.no_grad():
        hidden = model.hidden(inputs_of(split))
        y = model.second(hidden).permute(0, 2, 3, 1).flatten(0, 2).double()
        x = patches(hidden[:, [1, 2, 4]], stride=2).double()
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    ridge = (1e-2 * float(x.square().mean()) * len(x)) ** 0.5
    prior = sliced.state_dict()["second.weight"].flatten(1).double().T
    rows = torch.cat([x, ridge * torch.eye(27, dtype=torch.float64)])
    weight = torch.linalg.lstsq(rows, torch.cat([y, ridge * prior])).solution
    weight *= prior.norm(dim=0) / weight.norm(dim=0)
    got = repaired.state_dict()["second.weight"].flatten(1).T.double()
    torch.testing.assert_close(got, weight, rtol=1e-3, atol=1e-5)


def test_only_batch_norms_after_a_repaired_layer_are_measured_again() -> None:
    model, split = randomized(Convolutions()), split_of(2, 4, 4)
    _, sliced, repaired = repair(model, split, "first.weight", [2])
    before, after = sliced.state_dict(), repaired.state_dict()
    with torch.no_grad():
        x = F.conv2d(inputs_of(split), after["first.weight"], padding=1)
        x = F.batch_norm(x, after["norm.running_mean"], after["norm.running_var"],
                         after["norm.weight"], after["norm.bias"]).relu()
        x = F.conv2d(x, after["second.weight"], stride=2, padding=1).transpose(0, 1).flatten(1)
    torch.testing.assert_close(after["last_norm.running_mean"], x.mean(dim=1))
    torch.testing.assert_close(after["last_norm.running_var"], x.var(dim=1))
    torch.testing.assert_close(after["norm.running_mean"], before["norm.running_mean"])


def build_1d_net() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 6, 3, padding=1), nn.ReLU(),
                         nn.Conv1d(6, 3, 3, stride=2, padding=2, dilation=2))


@pytest.mark.parametrize(("model", "shape"), [
    (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), (5, 4)),
    (build_1d_net(), (2, 8)),
    (nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3, stride=2)), (2, 6, 6)),
], ids=["tokens", "signal", "image"])
def test_removed_duplicate_channel_is_replaced_by_the_other(model: Any,
                                                            shape: tuple[int, ...]) -> None:
    randomized(model)
    with torch.no_grad():
        for tensor in model[0].parameters():
            tensor[1] = tensor[0]
    split = split_of(*shape)
    original, sliced, repaired = repair(model, split, "0.weight", [1])
    x = inputs_of(split)
    assert error(repaired, original, x) < 0.01 * error(sliced, original, x)


def test_layers_with_unchanged_inputs_are_not_changed() -> None:
    model, split = randomized(Convolutions()), split_of(2, 4, 4)
    program = Program.capture(model.eval(), inputs_of(split)[:1])
    same = compensate(program, program, find_groups(program), [], split)
    for name, tensor in program.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("zero", [False, True])
def test_batch_norm_after_a_layer_cancels_the_rescaling(zero: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = randomized(Convolutions()), split_of(2, 4, 4)
    if zero:
        model.get_parameter("second.weight").data[1] = 0.0
    x, (_, sliced, repaired) = inputs_of(split), repair(model, split, "first.weight", [2])
    norms = [program.state_dict()["second.weight"].flatten(1).norm(dim=1)
               for program in (sliced, repaired)]
    torch.testing.assert_close(norms[0][[0, 2, 3]], norms[1][[0, 2, 3]])
    monkeypatch.setattr("edgewright.pruning._compensate._rescale_to_prior_norm", lambda prior, weights: weights)
    not_rescaled = repair(model, split, "first.weight", [2])[2]
    assert not torch.allclose(not_rescaled.state_dict()["second.weight"],
                              repaired.state_dict()["second.weight"])
    torch.testing.assert_close(repaired.run(x), not_rescaled.run(x), rtol=1e-3, atol=1e-3)


def test_weights_are_not_rescaled_if_the_norm_after_them_cannot_be_measured() -> None:
    class TwoNorms(Convolutions):
        """Two batch norms share their statistics."""

        def forward(self, x: Tensor) -> Tensor:
            y = self.second(self.hidden(x))
            statistics = (self.last_norm.running_mean, self.last_norm.running_var)
            return (F.batch_norm(y, *statistics) + 2 * F.batch_norm(y, *statistics)).mean((2, 3))

    split = split_of(2, 4, 4)
    original, sliced, repaired = repair(randomized(TwoNorms()), split, "first.weight", [2])
    x = inputs_of(split)
    assert error(repaired, original, x) < error(sliced, original, x)


class Shared(nn.Module):
    """One layer is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.twice = nn.Linear(6, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.last(self.twice(self.twice(x).relu()).relu())


def test_shared_layer_is_not_fitted_and_the_next_layer_compensates() -> None:
    model, split = randomized(Shared()), split_of(4)
    group = find_groups(Program.capture(model.eval(), torch.zeros(1, 4))).groups[0].name
    original, sliced, repaired = repair(model, split, group, [0])
    before, after = sliced.state_dict(), repaired.state_dict()
    torch.testing.assert_close(after["twice.weight"], before["twice.weight"], rtol=0, atol=0)
    assert error(repaired, original, inputs_of(split)) < error(sliced, original, inputs_of(split))


class SharedBias(nn.Module):
    """Two layers with separate weights and a shared bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 6, bias=False)
        self.last = nn.Linear(6, 6, bias=False)
        self.bias = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(self.first(x).relu(), self.second.weight, self.bias).relu()
        return F.linear(x, self.last.weight, self.bias)


def test_layer_with_a_shared_bias_is_not_fitted() -> None:
    model, split = randomized(SharedBias()), split_of(4)
    _, sliced, repaired = repair(model, split, "first.weight", [0])
    for name, tensor in sliced.state_dict().items():
        torch.testing.assert_close(repaired.state_dict()[name], tensor, rtol=0, atol=0)


def test_fewer_samples_are_used_if_activations_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = randomized(Convolutions()), split_of(2, 4, 4)
    monkeypatch.setattr("edgewright.pruning._compensate._MAX_BYTES", 1)
    _, _, repaired = repair(model, split, "first.weight", [0])
    ends = inputs_of(split)[[0, -1]]
    state = repaired.state_dict()
    with torch.no_grad():
        hidden = F.batch_norm(F.conv2d(ends, state["first.weight"], padding=1),
                              state["norm.running_mean"], state["norm.running_var"],
                              state["norm.weight"], state["norm.bias"]).relu()
        x = F.conv2d(hidden, state["second.weight"], stride=2, padding=1)
    torch.testing.assert_close(state["last_norm.running_mean"], x.mean(dim=(0, 2, 3)))


def test_prune_compensates_by_default(mixed_program: Program, mixed_task: Task) -> None:
    settings = {"criterion": "magnitude", "ratio": 0.4, "round_to": 1}
    x = next(mixed_task.train.batches(72)).inputs[0]
    plain = prune(mixed_program, mixed_task, ChannelPruning(**settings, compensate=False))
    repaired = prune(mixed_program, mixed_task, ChannelPruning(**settings, compensate=True))
    assert repaired.costs().macs == plain.costs().macs
    by_default = prune(mixed_program, mixed_task, ChannelPruning(**settings))
    torch.testing.assert_close(by_default.state_dict(), repaired.state_dict(), rtol=0, atol=0)
    assert error(repaired, mixed_program, x) < 0.5 * error(plain, mixed_program, x)


def test_strong_ridge_keeps_weights_near_the_trained_ones(mixed_program: Program,
                                                          mixed_task: Task) -> None:
    settings = {"criterion": "magnitude", "ratio": 0.4, "round_to": 1}
    plain = prune(mixed_program, mixed_task, ChannelPruning(
        **settings, compensate=False)).state_dict()["last.weight"]
    moved = [float((prune(mixed_program, mixed_task, ChannelPruning(
        **settings, compensate=True, ridge=ridge)).state_dict()["last.weight"] - plain).norm())
        for ridge in (0.001, 0.1, 10.0, 1e6)]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-4 < moved[0]
    with pytest.raises(UsageError, match="ridge: Input should be greater than 0"):
        ChannelPruning(ridge=0)


def test_compensation_without_data_is_rejected(mixed_program: Program) -> None:
    with pytest.raises(UsageError, match="compensate=True needs data; give a task"):
        prune(mixed_program, None, ChannelPruning(criterion="magnitude", compensate=True))
