"""Costs against values computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import Tensor, nn

from edgewright.graph import count_macs, stored_tensors, weight_of
from edgewright.program import Program
from edgewright.quantization import quantize
from edgewright.task import Task

IMAGE = (torch.zeros(1, 6, 8, 8),)


@pytest.mark.parametrize(("layer", "inputs", "macs"), [
    # outputs x kernel x input channels a group
    (nn.Conv2d(6, 4, 3), IMAGE, 4 * 6 * 6 * 6 * 9),
    (nn.Conv2d(6, 4, 3, padding="same"), IMAGE, 4 * 8 * 8 * 6 * 9),
    (nn.Conv2d(6, 4, (3, 1), stride=2), IMAGE, 4 * 3 * 4 * 6 * 3),
    (nn.Conv2d(6, 4, 3, dilation=2), IMAGE, 4 * 4 * 4 * 6 * 9),
    (nn.Conv2d(6, 4, 3, groups=2), IMAGE, 4 * 6 * 6 * 3 * 9),
    (nn.Conv2d(6, 12, 3, padding=1, groups=6), IMAGE, 12 * 8 * 8 * 9),
    (nn.Conv1d(6, 4, 5), (torch.zeros(1, 6, 9),), 4 * 5 * 6 * 5),
    (nn.Conv3d(2, 3, 2), (torch.zeros(1, 2, 4, 4, 4),), 3 * 27 * 2 * 8),
    # inputs x kernel x output channels a group
    (nn.ConvTranspose2d(6, 4, 3), IMAGE, 6 * 8 * 8 * 4 * 9),
    (nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), IMAGE, 6 * 8 * 8 * 2 * 9),
    (nn.ConvTranspose1d(6, 4, 3), (torch.zeros(1, 6, 5),), 6 * 5 * 4 * 3),
    (nn.Linear(4, 3), (torch.zeros(1, 4),), 12),
    (nn.Linear(4, 3), (torch.zeros(1, 5, 4),), 5 * 12),
    (nn.BatchNorm2d(6), IMAGE, 0),
    (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Softmax(1)), IMAGE, 0),
    (nn.PReLU(), IMAGE, 0),
])
def test_macs_of_layers(layer: Any, inputs: Any, macs: int) -> None:
    costs = Program.capture(layer, inputs).costs()
    assert costs.macs == macs
    assert costs.uncounted == {}
    assert sum(cost.macs for cost in costs.layers) == macs


@pytest.mark.parametrize(("function", "shapes", "macs"), [
    (torch.matmul, [(1, 3, 4), (1, 4, 5)], 3 * 4 * 5),
    (torch.matmul, [(1, 2, 3, 4), (1, 2, 4, 5)], 2 * 3 * 4 * 5),
    (torch.bmm, [(1, 3, 4), (1, 4, 5)], 3 * 4 * 5),
    (torch.baddbmm, [(1, 3, 5), (1, 3, 4), (1, 4, 5)], 3 * 4 * 5),
    # scores (3 x 7 of 4) and their mix of values (3 x 5 of 7), for two heads
    (F.scaled_dot_product_attention, [(1, 2, 3, 4), (1, 2, 7, 4), (1, 2, 7, 5)],
     2 * (3 * 7 * 4 + 3 * 5 * 7)),
    (torch.add, [(1, 3), (1, 3)], 0),
])
def test_macs_of_functions(function: Any, shapes: list[tuple[int, ...]], macs: int,
                           net: type[Net]) -> None:
    model = net(lambda m, *inputs: function(*inputs))
    costs = Program.capture(model, tuple(torch.zeros(shape) for shape in shapes)).costs()
    assert (costs.macs, costs.uncounted, costs.parameters) == (macs, {}, 0)


def test_macs_of_mm_and_addmm_with_a_stored_matrix(net: type[Net]) -> None:
    weight, bias = nn.Parameter(torch.zeros(4, 5)), nn.Parameter(torch.zeros(5))
    for function in (lambda m, x: torch.mm(x, m.w), lambda m, x: torch.addmm(m.b, x, m.w)):
        program = Program.capture(net(function, w=weight, b=bias), torch.zeros(1, 4))
        assert program.costs().macs == 20


def test_resnet20_costs_what_the_paper_says(resnet20_program: Program) -> None:
    costs = resnet20_program.costs()
    assert (costs.macs, costs.parameters) == (40_551_040, 269_722)
    assert costs.uncounted == {}
    statistics = 2 * sum(channels * layers for channels, layers in ((16, 7), (32, 6), (64, 6)))
    assert costs.weight_bytes == 4 * (269_722 + statistics)
    assert costs.macs_by_bits() == {32: 40_551_040}
    assert len(costs.layers) == 20


def test_parameters_are_the_models_own(small_program: Program) -> None:
    costs = small_program.costs()
    assert costs.parameters == (3 * 4 * 9 + 4) + 2 * 4 + (4 * 5 + 5)
    assert costs.weight_bytes == 4 * (costs.parameters + 2 * 4)  # and the running statistics


def test_all_costs_of_one_layer() -> None:
    program = Program.capture(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), torch.zeros(1, 5, 4))
    (layer,) = program.costs().layers
    weights = 4 * (32 + 8)
    assert (layer.op, layer.weight, layer.channels, layer.bits) == ("linear", "0.weight", 8, 32)
    assert (layer.macs, layer.weight_bytes) == (5 * 32, weights)
    assert layer.traffic_bytes == 4 * 5 * (4 + 8) + weights
    assert program.costs().traffic_bytes == layer.traffic_bytes


def test_channels_are_what_the_weight_produces() -> None:
    model = nn.Sequential(nn.Conv2d(6, 4, 3), nn.Flatten(2), nn.Linear(36, 7))
    layers = Program.capture(model, IMAGE).costs().layers
    assert [layer.channels for layer in layers] == [4, 7]


def test_a_computed_weight_counts_like_a_stored_one(net: type[Net]) -> None:
    model = net(lambda m, x: x @ (m.a @ m.b), a=nn.Parameter(torch.zeros(4, 2)),
                b=nn.Parameter(torch.zeros(2, 3)))
    costs = Program.capture(model, torch.zeros(1, 4)).costs()
    assert costs.macs_by_bits() == {32: 4 * 3}
    assert costs.layers[0].weight == "weight"


def test_unknown_operators_are_listed(net: type[Net]) -> None:
    model = net(lambda m, x: torch.fft.rfft(torch.cdist(x, x)).abs() + torch.fft.rfft(x).abs())
    costs = Program.capture(model, torch.zeros(1, 4, 4)).costs()
    assert costs.uncounted == {"cdist": 1, "fft_rfft": 2}
    assert costs.macs == 0


def test_costs_are_for_one_sample_whatever_the_example() -> None:
    model = nn.Conv2d(6, 4, 3)
    large = Program.capture(model, torch.zeros(9, 6, 8, 8)).costs()
    assert large == Program.capture(model, IMAGE).costs()


def test_macs_with_other_shapes(small_program: Program) -> None:
    conv = next(iter(small_program.calls()))
    halved = {conv: (1, 2, 6, 6), conv.args[0]: (1, 3, 8, 8), conv.args[1]: (2, 3, 3, 3)}
    assert count_macs(conv, halved.__getitem__) == 2 * 36 * 27
    assert count_macs(conv) == 4 * 36 * 27
    assert count_macs(next(n for n in small_program.calls() if n.name == "relu")) == 0


def test_weight_of_a_call(small_program: Program) -> None:
    found = {node.name: weight_of(node) for node in small_program.calls()}
    names = {call: weight and str(weight.target) for call, weight in found.items()}
    assert names["conv2d"] == "0.weight"
    assert names["linear"] == "5.weight"
    assert found["relu"] is None


def test_stored_tensors_are_those_of_the_graph(small_program: Program) -> None:
    stored = stored_tensors(small_program.graph_module)
    assert stored.keys() == small_program.state_dict().keys()
    assert stored["0.weight"] is small_program.graph_module.get_parameter("0.weight")


@pytest.mark.parametrize(("function", "inputs", "macs"), [
    (lambda m, x, y: torch.einsum("bij,bjk->bik", x, y), ((1, 3, 4), (1, 4, 5)), 3 * 4 * 5),
    (lambda m, x, y: torch.einsum("...i,...i->...", x, y), ((1, 3, 4), (1, 3, 4)), 3 * 4),
    (lambda m, x, y: torch.einsum("bij->bji", x).sum() + y, ((1, 3, 4), (1, 1)), 0),
    (lambda m, x, y: m.bilinear(x, y), ((1, 3, 4), (1, 3, 5)), 3 * 6 * 4 * 5),
])
def test_products_of_any_shape_are_counted(function: Callable[..., Any],
                                           inputs: tuple[tuple[int, ...], ...], macs: int,
                                           net: type[Net]) -> None:
    model = net(function, bilinear=nn.Bilinear(4, 5, 6))
    program = Program.capture(model, tuple(torch.zeros(shape) for shape in inputs))
    assert (program.costs().macs, program.costs().uncounted) == (macs, {})


def test_a_graph_deeper_than_the_stack_is_counted(net: type[Net]) -> Any:
    def deep(m: Any, x: Any) -> Any:
        for _ in range(1200):
            x = x + 1
        return m.a(x)

    program = Program.capture(net(deep, a=nn.Linear(2, 3)), torch.zeros(1, 2))
    assert program.costs().macs == 6


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTMCell, 4), (nn.GRUCell, 3), (nn.RNNCell, 1)])
def test_a_recurrent_cell_multiplies_its_input_and_its_state(cell: Any, gates: int) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell(5, 7)

        def forward(self, x: Tensor) -> Tensor:
            result = self.cell(x)
            return result[0] if isinstance(result, tuple) else result

    program = Program.capture(Last(), torch.zeros(1, 5))
    assert (program.costs().macs, program.costs().uncounted) == (gates * 7 * (5 + 7), {})


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_a_recurrent_layer_multiplies_at_every_step(kind: Any, gates: int, batch_first: bool,
                                                    net: type[Net]) -> None:
    model = net(lambda m, x: m.r(x if batch_first else x.transpose(0, 1))[0],
                r=kind(5, 7, num_layers=2, bidirectional=True, batch_first=batch_first))
    costs = Program.capture(model, torch.zeros(3, 11, 5)).costs()
    directions, steps = 2, 11
    expected = [directions * steps * gates * 7 * (inputs + 7) for inputs in (5, 2 * 7)]
    assert [layer.macs for layer in costs.layers] == expected
    assert [layer.channels for layer in costs.layers] == [14, 14]
    assert [layer.weight for layer in costs.layers] == ["r.weight_ih_l0", "r.weight_ih_l1"]
    weights = sum(4 * tensor.numel() for name, tensor in model.state_dict().items() if "l0" in name)
    assert costs.layers[0].weight_bytes == weights
    read, states = 5 * steps, 2 * (2 if kind is nn.LSTM else 1) * 7
    assert costs.layers[0].traffic_bytes == weights + 4 * (read + states + 14 * steps)
    assert costs.macs_by_bits() == {32: sum(expected)}
    assert costs.uncounted == {}


def test_a_projection_is_counted_too(net: type[Net]) -> None:
    model = net(lambda m, x: m.r(x)[0], r=nn.LSTM(5, 7, proj_size=3, batch_first=True))
    costs = Program.capture(model, torch.zeros(1, 11, 5)).costs()
    assert costs.macs == 11 * (4 * 7 * (5 + 3) + 3 * 7)


def test_a_recurrent_layer_with_integer_weights_computes_in_floating_point(
        net: type[Net]) -> None:
    model = net(lambda m, x: m.b(m.r(x)[0].mean(1)), r=nn.GRU(16, 16, batch_first=True),
                b=nn.Linear(16, 4))
    x = torch.randn(20, 6, 16)
    task = Task((x, torch.arange(20) % 4), test=(x + 1, torch.arange(20) % 4))
    layers = quantize(Program.capture(model, x[:2]), task).costs().layers
    assert [(layer.op, layer.bits, layer.weight_bits) for layer in layers] == [
        ("gru", 32, 8), ("linear", 8, 8)]
