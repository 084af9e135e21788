"""Equalization: the function stays the same and ranges become more equal, for many networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.programs import measure_accuracies
from torch import Tensor, nn
from torch.nn import functional as F

from edgewright.goals import Classification
from edgewright.program import Program, fold_batch_norm
from edgewright.quantization.ptq._equalize import equalize
from edgewright.quantization.ptq._scalable_channels import find_scalable_channels
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, train


def relative_error(want: Any, have: Any) -> Any:
    return float((want - have).norm() / want.norm().clamp(min=1e-30))


def unbalance(model: nn.Module, seed: int, spread: float = 2.0) -> Any:
    """Ranges that differ widely between the channels of every layer."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv1d | nn.Linear | nn.ConvTranspose2d):
            first = (-1, *[1] * (layer.weight.ndim - 1))
            second = (1, -1, *[1] * (layer.weight.ndim - 2))
            for shape in (first, second):
                count = layer.weight.shape[shape.index(-1)]
                scale = torch.exp(spread * torch.randn(count, generator=generator))
                layer.weight.data.mul_(scale.reshape(shape))
    return model


def pairs(layer: Any, weight: Any) -> Any:
    """The largest magnitude for every output and input, 0 where they are not connected."""
    weight, outputs, inputs = weight.abs(), len(layer.writes), len(layer.reads)
    dense = torch.zeros(outputs, inputs, dtype=torch.float64)
    for first in range(weight.shape[0]):
        for second in range(weight.shape[1]):
            if layer.transposed:
                output, i = first // (inputs // layer.groups) * weight.shape[1] + second, first
            else:
                output, i = first, first // (outputs // layer.groups) * weight.shape[1] + second
            dense[output, i] = weight[first, second].max()
    return dense


def worth(scalable: Any, state: Any) -> Any:
    """Equation 9, slowly: over all channels, the product of range over layer's range."""
    total = 0.0
    sides = []
    for layer in scalable.layers:
        dense = pairs(layer, state[layer.weight])
        sides += [(layer.writes.tolist(), dense.amax(1)), (layer.reads.tolist(), dense.amax(0))]
    for factor in range(len(scalable.streams)):
        product = 1.0
        for numbers, ranges in sides:
            mine = [float(r) for r, number in zip(ranges, numbers, strict=True) if number == factor]
            product *= max(mine) / float(ranges.max()) if mine else 1.0
        total += product
    return total


BLOCKS = ("conv", "depthwise", "grouped", "transposed", "relu", "leaky", "relu6", "sigmoid",
          "prelu", "max_pool", "avg_pool", "residual", "residual_conv", "cat", "gate", "half",
          "chunk", "pad_channels", "double", "plus_one", "shuffle", "norm", "upsample", "halve",
          "attend", "twice", "stop")


class RandomNet(nn.Module):
    """Blocks in a row, then a pool or a flatten, and two linear layers."""

    def __init__(self, blocks: Any, flat: Any, bias: Any) -> None:
        super().__init__()
        self.names, self.flat = blocks, flat
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
        self.layers = nn.ModuleDict()
        width = 8
        for index, name in enumerate(blocks):
            made, width = self.make(name, width, bias)
            for key, layer in made.items():
                self.layers[f"{index}_{key}"] = layer
        self.hidden = nn.Linear(width * (16 if flat else 1), 6, bias=bias)
        self.head = nn.Linear(6, 3, bias=bias)

    @staticmethod
    def make(name: str, width: Any, bias: Any) -> Any:
        plain = {"conv": nn.Conv2d(width, 8, 3, padding=1, bias=bias)}
        return {
            "conv": (plain, 8),
            "depthwise": ({"conv": nn.Conv2d(width, width, 3, padding=1, groups=width,
                                             bias=bias)}, width),
            "grouped": ({"conv": nn.Conv2d(width, width, 1, groups=2, bias=bias)}, width),
            "transposed": ({"conv": nn.ConvTranspose2d(width, width, 3, padding=1, groups=2,
                                                       bias=bias)}, width),
            "residual": ({"conv": nn.Conv2d(width, width, 1, bias=bias)}, width),
            "residual_conv": ({"conv": nn.Conv2d(width, 8, 1, bias=bias),
                               "short": nn.Conv2d(width, 8, 1, bias=bias)}, 8),
            "cat": ({"conv": nn.Conv2d(width, 4, 1, bias=bias)}, width + 4),
            "gate": ({"conv": nn.Conv2d(width, width, 1, bias=bias)}, width),
            "prelu": ({"act": nn.PReLU(width)}, width),
            "norm": ({"norm": nn.GroupNorm(1, width)}, width),
            "half": ({}, width // 2 * 2 // 2 if width >= 4 else width),
            "chunk": ({}, width),
            "pad_channels": ({}, width + 2),
            "twice": ({"conv": nn.Conv2d(width, width, 1, bias=bias)}, width),
        }.get(name, ({}, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for index, name in enumerate(self.names):
            made = {key.split("_", 1)[1]: layer for key, layer in self.layers.items()
                    if key.startswith(f"{index}_")}
            x = self.step(name, x, made)
        x = x.flatten(1) if self.flat else x.mean((2, 3))
        return self.head(torch.relu(self.hidden(x)))

    @staticmethod
    def step(name: str, x: Any, made: Any) -> Any:
        conv = made.get("conv")
        width = x.shape[1]
        return {
            "relu": torch.relu, "leaky": F.leaky_relu, "relu6": F.relu6, "sigmoid": torch.sigmoid,
            "prelu": made.get("act"), "norm": made.get("norm"),
            "max_pool": lambda x: F.max_pool2d(x, 3, 1, 1),
            "avg_pool": lambda x: F.avg_pool2d(x, 3, 1, 1),
            "residual": lambda x: x + conv(x).relu(),
            "residual_conv": lambda x: conv(x) - made["short"](x),
            "cat": lambda x: torch.cat([x, conv(x)], 1),
            "gate": lambda x: x * torch.sigmoid(conv(x)),
            "half": lambda x: x[:, :width // 2] if width >= 4 else x,
            "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
            "pad_channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)),
            "double": lambda x: x * 2 / 3, "plus_one": lambda x: x + 0.1,
            "shuffle": lambda x: x.reshape(-1, 2, width // 2, 4, 4).transpose(1, 2).reshape(
                -1, width, 4, 4),
            "upsample": lambda x: F.max_pool2d(F.interpolate(x, scale_factor=2), 2),
            "halve": lambda x: torch.maximum(x[:, :, :2], x[:, :, 2:]).repeat(1, 1, 2, 1),
            "attend": lambda x: x * x.mean(1, keepdim=True),
            "twice": lambda x: conv(conv(x).relu()),
            "stop": lambda x: x.amax(1, keepdim=True).expand(-1, width, -1, -1),
        }.get(name, conv)(x)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=7), st.booleans(), st.booleans(),
       st.integers(0, 1000))
def test_function_is_kept_and_ranges_become_more_equal(blocks: Any, flat: Any, bias: Any,
                                                       seed: Any) -> None:
    torch.manual_seed(seed)
    model = unbalance(RandomNet(blocks, flat, bias).eval(), seed, spread=1.0)
    program = Program.capture(model, torch.zeros(2, 3, 4, 4))
    before = {name: value.clone() for name, value in program.state_dict().items()}
    even = equalize(program)
    x = torch.randn(3, 3, 4, 4)
    want = program.run(x)
    assume(float(want.abs().max()) > 1e-6)  # a norm of equal channels leaves rounding alone
    assert relative_error(want, even.run(x)) <= 1e-5
    scalable = find_scalable_channels(program)
    assert len(scalable.streams) >= 6  # the hidden layer's
    assert worth(scalable, even.state_dict()) >= worth(scalable, before) * (1 - 1e-6)
    torch.testing.assert_close(program.state_dict(), before, rtol=0, atol=0)


def sequential(*layers: Any, example: tuple[int, ...] = (1, 3, 4, 4)) -> Any:
    torch.manual_seed(0)
    model = unbalance(nn.Sequential(*layers), 1)
    return Program.capture(model.eval(), torch.zeros(example))


def test_two_layers_get_equal_ranges() -> None:
    """Equation 11: the range of each channel becomes the root of the product in both."""
    program = sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 3))
    state, even = program.state_dict(), equalize(program).state_dict()
    rows = [float(state["0.weight"][c].abs().max()) for c in range(8)]
    columns = [float(state["2.weight"][:, c].abs().max()) for c in range(8)]
    for c in range(8):
        want = (rows[c] * columns[c])**0.5
        assert float(even["0.weight"][c].abs().max()) == pytest.approx(want, rel=1e-5)
        assert float(even["2.weight"][:, c].abs().max()) == pytest.approx(want, rel=1e-5)
        factor = (columns[c] / rows[c])**0.5
        torch.testing.assert_close(even["0.weight"][c], state["0.weight"][c] * factor)
        assert float(even["0.bias"][c]) == pytest.approx(float(state["0.bias"][c]) * factor)
        torch.testing.assert_close(even["2.weight"][:, c], state["2.weight"][:, c] / factor)
    torch.testing.assert_close(even["2.bias"], state["2.bias"], rtol=0, atol=0)


def test_three_layers_in_a_row_become_balanced() -> None:
    """At convergence every channel has the same range on both of its sides."""
    program = sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(),
                         nn.Conv2d(8, 6, 1))
    even = equalize(program).state_dict()
    for rows, columns in ((even["0.weight"].flatten(1).abs().amax(1),
                           even["2.weight"].flatten(1).abs().amax(1)),
                          (even["2.weight"].flatten(1).abs().amax(1),
                           even["4.weight"].flatten(1).abs().amax(0))):
        torch.testing.assert_close(rows, columns, rtol=1e-2, atol=0)


@pytest.mark.parametrize("layers", [
    [nn.Conv2d(3, 8, 1)],
    [nn.Conv2d(3, 8, 1), nn.Sigmoid(), nn.Conv2d(8, 8, 1)],
    [nn.Conv2d(3, 8, 1), nn.ReLU6(), nn.Conv2d(8, 8, 1)],
    [nn.Conv2d(3, 8, 1), nn.Hardswish(), nn.Conv2d(8, 8, 1)],
    [nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)],
    [nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, 8, 1)],
])
def test_programs_without_scalable_channels_are_returned(layers: list[Any]) -> None:
    program = sequential(*layers)
    assert equalize(program) is program


def test_balanced_layers_are_unchanged() -> None:
    program = equalize(sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    assert equalize(program) is program


def test_folded_norms_do_not_prevent_scaling() -> None:
    program = sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
    folded = fold_batch_norm(program)
    even = equalize(folded)
    assert even is not folded
    x = torch.randn(4, 3, 4, 4)
    assert relative_error(program.run(x), even.run(x)) <= 1e-5


def test_tied_weights_are_unchanged() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.two(self.one(x).relu()).relu())

    torch.manual_seed(0)
    program = Program.capture(unbalance(Tied(), 0), torch.zeros(1, 6))
    assert equalize(program) is program


def test_dead_channels_do_not_prevent_equalization() -> None:
    torch.manual_seed(0)
    model = unbalance(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), 0)
    model[0].weight.data[2] = 0
    model[2].weight.data[:, 4] = 0
    program = Program.capture(model, torch.zeros(1, 4))
    even = equalize(program)
    state = even.state_dict()
    rows, columns = state["0.weight"].abs().amax(1), state["2.weight"].abs().amax(0)
    assert (float(rows[2]), float(columns[4])) == (0, 0)
    live = [0, 1, 3, 5]
    torch.testing.assert_close(rows[live], columns[live])
    assert float(rows[4]) <= float(program.state_dict()["0.weight"][4].abs().max())
    x = torch.randn(9, 4)
    assert relative_error(program.run(x), even.run(x)) <= 1e-5


def test_all_zero_layers_are_equalized() -> None:
    program = sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1))
    state = program.state_dict()
    state["2.weight"][:] = 0
    program = program.with_state(state)
    even = equalize(program)
    assert all(bool(torch.isfinite(value).all()) for value in even.state_dict().values())
    x = torch.randn(2, 3, 4, 4)
    assert relative_error(program.run(x), even.run(x)) <= 1e-5


def test_residual_streams_are_scaled_as_a_whole() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two, self.head = (
                nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1), nn.Linear(6, 2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x).relu()
            x = (x + self.two(self.one(x).relu())).relu()
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    scale = torch.exp(2 * torch.randn(6))
    model = Residual()
    with torch.no_grad():
        for layer in (model.stem, model.two):
            layer.weight.mul_(scale.reshape(-1, 1, 1, 1))
            layer.get_parameter("bias").mul_(scale)
        model.one.weight.div_(scale.reshape(1, -1, 1, 1))
        model.head.weight.div_(scale)
    program = Program.capture(model, torch.zeros(1, 3, 4, 4))
    even = equalize(program)
    factors = even.state_dict()["stem.bias"] / program.state_dict()["stem.bias"]
    assert float(factors.max() / factors.min()) > 10
    torch.testing.assert_close(even.state_dict()["two.bias"] / program.state_dict()["two.bias"],
                               factors)
    x = torch.randn(4, 3, 4, 4)
    assert relative_error(program.run(x), even.run(x)) <= 1e-5


def test_zeros_are_kept_and_saved_programs_match(tmp_path: Path) -> None:
    program = sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
    state = program.state_dict()
    state["0.weight"][:, 1] = 0
    program = program.with_state(state)
    even = equalize(program)
    assert bool((even.state_dict()["0.weight"][:, 1] == 0).all())
    even.save(tmp_path / "even.pt2")
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(Program.load(tmp_path / "even.pt2").run(x), even.run(x))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.deep = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.mix = nn.Conv2d(12, 12, 1)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(self.stem(x).relu()).relu()
        return self.head(self.mix(x).relu().mean((2, 3)))


def per_tensor_int8(program: Program) -> Any:
    """Weights of one scale a tensor."""
    state = {}
    for name, value in program.state_dict().items():
        scale = value.abs().max() / 127
        state[name] = (value / scale).round() * scale if name.endswith("weight") else value
    return program.with_state(state)


def test_a_badly_scaled_depthwise_network_in_int8_goes_from_broken_to_fine(colour_task: Task) -> Any:
    torch.manual_seed(0)
    net = Depthwise()
    train(net, colour_task, Training(epochs=10, batch_size=32, lr=0.05), GoalLoss(Classification()))
    scale = torch.exp2(torch.linspace(-9, 9, 12))  # exact in floating point
    with torch.no_grad():
        net.stem.weight.mul_(scale.reshape(-1, 1, 1, 1))
        net.get_parameter("stem.bias").mul_(scale)
        net.get_parameter("deep.bias").div_(scale)
        net.deep.weight.div_((scale * scale).reshape(-1, 1, 1, 1))
        net.mix.weight.mul_(scale.reshape(1, -1, 1, 1))
    program = Program.capture(net.eval(), torch.zeros(1, 3, 8, 8))

    def accuracy(candidate: Any) -> Any:
        return measure_accuracies(candidate.module(), colour_task.test)[-1]

    whole = accuracy(program)
    assert whole > 0.85
    assert accuracy(per_tensor_int8(program)) < whole - 0.2
    assert accuracy(per_tensor_int8(equalize(program))) > whole - 0.03
