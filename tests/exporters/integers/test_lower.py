"""Quantized programs as networks of integers: the same answers, or a refusal by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import edgewright as ew
from edgewright.core import ExitRule
from edgewright.errors import ModelError, UsageError
from edgewright.exporters.integers import to_integer_network
from edgewright.integers import (
    IntegerNetwork,
    from_integers,
    run_exits,
    run_reference,
    to_integers,
)
from edgewright.program import Program, outputs_of
from edgewright.runtime import confidence
from edgewright.task import Task


class Model(nn.Module):
    """A convolution, what a test adds to it, and a linear layer."""

    def __init__(self, body: Any, features: int, *layers: nn.Module, channels: int = 6) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(
            channels)
        self.body, self.layers, self.last = body, nn.ModuleList(layers), nn.Linear(features, 4)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.body(F.relu(self.norm(self.first(x))), self.layers).flatten(1))


class Signal(nn.Module):
    """Convolutions of one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 6, 5, stride=2, padding=2)
        self.second = nn.Conv1d(6, 8, 3, dilation=2, padding="same", groups=2)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        return self.last(F.relu(self.second(F.relu(self.first(x)))).mean(-1))


class Tokens(nn.Module):
    """Linear layers over several tokens, and over channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 6), nn.Linear(5, 5), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Any:
        x = torch.tanh(self.first(x))
        x = x + self.second(x.transpose(1, 2)).transpose(1, 2)
        return self.last(x.mean(1))


def squeeze_and_excite(x: Tensor, layers: Any) -> Tensor:
    return F.avg_pool2d(x * torch.sigmoid(layers[0](F.adaptive_avg_pool2d(x, 1))), 4)


def option_a(x: Tensor, _: Any) -> Tensor:
    return F.avg_pool2d(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 3)), 4)


def shuffled(x: Tensor, _: Any) -> Tensor:
    first, second = x.chunk(2, 1)
    joined = torch.cat([F.hardswish(second), first], 1)
    return F.avg_pool2d(joined.reshape(-1, 2, 3, 8, 8).transpose(1, 2).reshape(-1, 6, 8, 8), 4)


IMAGE = (3, 8, 8)
CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "residual": (lambda: Model(lambda x, ls: F.avg_pool2d(F.relu(x + ls[0](x)), 4), 24,
                               nn.Conv2d(6, 6, 3, padding=1)), IMAGE),
    "depthwise": (lambda: Model(lambda x, ls: F.relu6(ls[1](F.relu6(ls[0](x)))), 96,
                                nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6),
                                nn.Conv2d(6, 6, 1)), IMAGE),
    "flattened image": (lambda: Model(lambda x, ls: ls[0](x), 6 * 4 * 4,
                                      nn.MaxPool2d(3, 2, 1)), IMAGE),
    "squeeze and excite": (lambda: Model(squeeze_and_excite, 24, nn.Conv2d(6, 6, 1)), IMAGE),
    "option A": (lambda: Model(option_a, 11), IMAGE),
    "shuffled": (lambda: Model(shuffled, 24), IMAGE),
    "averages at borders": (lambda: Model(lambda x, _: F.avg_pool2d(
        x, 3, 2, 1, count_include_pad=False), 96), IMAGE),
    "padding that counts": (lambda: Model(lambda x, _: F.avg_pool2d(x, 3, 2, 1), 96), IMAGE),
    "difference": (lambda: Model(lambda x, ls: F.avg_pool2d(x - ls[0](x), 4), 24,
                                 nn.Conv2d(6, 6, 1)), IMAGE),
    "element-wise": (lambda: Model(lambda x, ls: F.avg_pool2d(
        F.gelu(ls[0](x)) * torch.sigmoid(x), 4), 24, nn.Conv2d(6, 6, 1)), IMAGE),
    "signal": (Signal, (3, 20)),
    "tokens": (Tokens, (5, 8)),
}


def make_task(x: Tensor) -> Task:
    third = len(x) // 3
    labels = torch.arange(len(x)) % 4
    train, val, test = (TensorDataset(part, labels[:len(part)])
                        for part in (x[:third], x[third:2 * third], x[2 * third:]))
    return Task(train, val, test)


def quantized(build: Any, shape: tuple[int, ...], **settings: Any) -> tuple[Program, Tensor]:
    """A program for the target "c", and samples."""
    torch.manual_seed(0)
    model = build().eval()
    x = torch.randn(64, *shape)
    task = make_task(x)
    program = Program.capture(model, task.train.example(2))
    config = ew.Quantization(target="c", **settings)
    return ew.quantize(program, task, config), x


def run(network: IntegerNetwork, x: Tensor) -> list[Any]:
    structure, tensors = network.structure, network.tensors
    integers = [to_integers(x.numpy(), port, tensors[port.tensor]) for port in structure.inputs]
    return [from_integers(found, port, tensors[port.tensor]) for found, port in zip(
        run_reference(network, integers), structure.outputs, strict=True)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("settings", [{}, {"weights": 4}, {"granularity": "per_tensor"}],
                         ids=["int8", "int4", "per tensor"])
def test_a_network_answers_as_its_program_does(name: str, settings: dict[str, Any]) -> None:
    program, x = quantized(*CASES[name], **settings)
    network = to_integer_network(program)
    found, = run(network, x)
    wanted = program.run(x).numpy()
    assert found.shape == wanted.shape
    exact = np.isclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()).all(axis=1)
    assert exact.mean() > 0.9  # the others have a value that lies halfway between two integers
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    assert network.macs > 0


def test_a_program_for_onnx_runtime_can_be_translated_if_all_is_quantized() -> None:
    torch.manual_seed(0)
    build, shape = CASES["residual"]
    x = torch.randn(64, *shape)
    task = make_task(x)
    program = ew.quantize(Program.capture(build().eval(), task.train.example(2)), task,
                          ew.Quantization())
    found, = run(to_integer_network(program), x)
    assert np.allclose(found, program.run(x).numpy(), atol=0.02)


def test_few_bits_are_stored_in_few_bits() -> None:
    program, _ = quantized(*CASES["residual"], weights=2)
    convolutions = [one for one in to_integer_network(program).steps if one.kind == "convolution"]
    assert [one.bits for one in convolutions] == [8, 2, 8]
    assert [one.finer_by for one in convolutions] == [1, 32, 1]


def test_the_order_of_flattened_elements_is_the_programs() -> None:
    program, _ = quantized(*CASES["flattened image"])
    network = to_integer_network(program)
    assert [step.kind for step in network.steps] == [
        "convolution", "maximum_pool", "copy", "convolution"]
    assert network.structure.inputs[0].order == (1, 2, 0)


class Exits(nn.Module):
    """Two linear layers, each with a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one = nn.Linear(8, 8), nn.Linear(8, 4)
        self.second, self.two = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.first(x))
        return 6 * self.one(x), 6 * self.two(F.relu(self.second(x)))


@pytest.fixture(scope="module")
def with_exits() -> tuple[Program, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(90, 8)
    program = Program.capture(Exits().eval(), x[:2])
    program = Program(program.graph_module, program.example_inputs, exits=1)
    return ew.quantize(program, make_task(x), ew.Quantization(target="c")), x


def test_outputs_of_every_exit_are_computed(with_exits: tuple[Program, Tensor]) -> None:
    program, x = with_exits
    found = run(to_integer_network(program), x)
    for one, wanted in zip(found, program.run(x), strict=True):
        assert np.allclose(one, wanted.numpy(), atol=0.05)
    assert len(found) == len(outputs_of(program)) == 2


def test_samples_leave_where_the_softmax_of_the_program_says(
        with_exits: tuple[Program, Tensor]) -> None:
    program, x = with_exits
    network = to_integer_network(program, (ExitRule(threshold=0.5, temperature=2.0),))
    port, = network.structure.inputs
    integers = to_integers(x.numpy(), port, network.tensors[port.tensor])
    found, exits = run_exits(network, [integers])
    first, last = (one.numpy() for one in program.run(x))
    sure = confidence(first, 2.0)
    clear = np.abs(sure - 0.5) > 0.01
    assert 10 < (exits == 0).sum() < 80
    assert np.array_equal((exits == 0)[clear], (sure >= 0.5)[clear])
    wanted = np.where((exits == 0)[:, None], first, last)
    values = from_integers(found, network.structure.outputs[0],
                           network.tensors[network.structure.outputs[0].tensor])
    assert np.allclose(values, wanted, atol=0.05)
    never = to_integer_network(program, (ExitRule(threshold=None),))
    assert set(run_exits(never, [integers])[1]) == {1}
    with pytest.raises(UsageError, match="given 2 exit rules for 1 early exits"):
        to_integer_network(program, (ExitRule(threshold=None),) * 2)


@pytest.mark.parametrize(("build", "shape", "fault"), [
    (lambda: Model(lambda x, _: torch.softmax(x, 1), 384), IMAGE, "softmax.*no kernel"),
    (lambda: Model(lambda x, ls: ls[0](x), 6 * 16 * 16,
                   nn.ConvTranspose2d(6, 6, 2, stride=2)), IMAGE, "conv_transpose2d.*no kernel"),
    (lambda: Model(lambda x, _: F.adaptive_avg_pool2d(x, 3), 54), IMAGE, "different sizes"),
    (lambda: Model(lambda x, _: F.pad(x, (1, 1, 1, 1), "reflect"), 600), IMAGE, "pad.*reflect"),
])
def test_what_has_no_kernel_is_refused_by_name(build: Any, shape: tuple[int, ...],
                                               fault: str) -> None:
    program, _ = quantized(build, shape)
    with pytest.raises(ModelError, match=f"(?s){fault}"):
        to_integer_network(program)


def test_programs_in_floating_point_or_for_other_runtimes_are_refused() -> None:
    program = Program.capture(nn.Linear(4, 2), torch.zeros(2, 4))
    with pytest.raises(ModelError, match="not quantized"):
        to_integer_network(program)
    x = torch.randn(32, 3, 8, 8)
    task = make_task(x)
    build, _ = CASES["depthwise"]
    for_litert = ew.quantize(Program.capture(Model(
        lambda y, ls: F.adaptive_avg_pool2d(y, 1), 6).eval(), x[:2]), task,
        ew.Quantization(target="litert"))
    with pytest.raises(ModelError, match="another scale"):
        to_integer_network(for_litert)
    partly = ew.quantize(Program.capture(build().eval(), x[:2]), task,
                         ew.Quantization(layers={"layers.0": None}))
    with pytest.raises(ModelError, match="conv2d"):
        to_integer_network(partly)
