"""Conversion from fake quantizers to integers: the program matches the simulation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewright.exporters import to_onnx
from edgewright.program import Program, fold_batch_norm
from edgewright.quantization import (
    PTQ,
    Precision,
    Quantization,
    StaticRange,
    place,
    quantize,
    resolve,
)
from edgewright.quantization.calibration._calibrate import (
    calibrate_activation_ranges,
    calibrate_weight_ranges,
)
from edgewright.quantization.conversion._convert import convert
from edgewright.quantization.simulation._norm_freezing import make_gains_positive
from edgewright.quantization.simulation._simulate import simulate_quantization
from edgewright.runtime import OnnxEngine
from edgewright.task import Task

ops = torch.ops.quantized_decomposed
aten = torch.ops.aten


def relative_error(want: Any, have: Any) -> Any:
    return float((want - have).norm() / want.norm())


def on_runtime(program: Program, x: Any) -> Any:
    return torch.from_numpy(OnnxEngine(to_onnx(program)).run((x.numpy(),))[0])


def quantized_with(model: nn.Module, config: Any = None,
                   shape: tuple[int, ...] = (6,)) -> tuple[Any, ...]:
    """The program, the quantized one, and what they read."""
    x, y = torch.randn(64, *shape), torch.arange(64) % 3
    program = Program.capture(model.eval(), x[:2])
    task = Task((x, y), (x[:8], y[:8]), (x[8:15], y[8:15]))
    return program, quantize(program, task, config), x


def calibrated(program: Program, config: Any, *inputs: Any) -> tuple[Any, ...]:
    placement = place(program, resolve(config))
    simulation = simulate_quantization(program, placement)
    calibrate_weight_ranges(simulation, config.range_estimator)
    calibrate_activation_ranges(simulation, config.range_estimator, [inputs])
    return placement, simulation


@pytest.mark.parametrize(("config", "most"), [
    (Quantization(), 2e-3), (Quantization(affine_weights=True), 2e-3),
    (Quantization(granularity="per_tensor"), 2e-3), (Quantization(
        activations=StaticRange(symmetric=True)), 2e-3),
    (Quantization(weights=4, activations=4, first_last_bits=None), 0.05),  # biases have their coarse steps
    (Quantization(activations="dynamic"), 1e-6), (Quantization(activations=None, weights=2), 1e-6),
], ids=["int8", "affine", "tensor", "symmetric", "four bits", "dynamic", "weights only"])
def test_converted_program_matches_the_simulation(small: Program, colour_task: Task, config: Any,
                                                  most: float) -> None:
    folded = fold_batch_norm(small)
    x, = colour_task.test.example(100)
    placement, simulation = calibrated(folded, config, x)
    converted = convert(folded, placement, simulation)
    simulated = simulation.module(x).detach()
    assert relative_error(folded.run(x), simulated) > 1e-4  # something is rounded
    assert relative_error(simulated, converted.run(x)) < most


@pytest.mark.parametrize("affine", [False, True])
def test_a_norm_folds_into_scales_and_leaves_the_integers(net: Any, affine: bool) -> None:
    torch.manual_seed(0)
    model = net(lambda m, x: m.h(m.n(m.a(x)).relu()), a=nn.Linear(6, 8), n=nn.BatchNorm1d(8),
                h=nn.Linear(8, 3)).eval()
    nn.init.normal_(model.n.weight)
    nn.init.uniform_(model.n.running_var, 0.5, 2)
    nn.init.normal_(model.n.running_mean)
    x = torch.randn(64, 6)
    program = make_gains_positive(Program.capture(model, x[:2]))
    placement, simulation = calibrated(program, Quantization(affine_weights=affine), x)
    converted = convert(program, placement, simulation)
    state, quantizer = converted.state_dict(), simulation.weights["a.weight"]
    torch.testing.assert_close(state["a.weight"].float(),
                               quantizer.integers(program.state_dict()["a.weight"]))
    gain = model.n.weight.abs() / torch.sqrt(model.n.running_var + model.n.eps)
    torch.testing.assert_close(state["a.weight_scale"], (quantizer.scale * gain).detach())
    assert not any(name.startswith("n.") for name in state)
    assert relative_error(simulation.module(x).detach(), converted.run(x)) < 2e-3


def test_computed_biases_are_unchanged(net: Any) -> None:
    torch.manual_seed(0)
    model = net(lambda m, x: m.h(F.linear(x, m.a.weight, x.mean(0))),
                a=nn.Linear(6, 6), h=nn.Linear(6, 3))
    for config in (Quantization(), Quantization(method=PTQ(correct_bias=True)), Quantization(activations="dynamic")):
        program, quantized, x = quantized_with(model, config)
        assert relative_error(program.run(x), quantized.run(x)) < 0.02
        assert relative_error(quantized.run(x), on_runtime(quantized, x)) < 2e-3
        first = next(node for node in quantized.calls() if node.target is aten.linear.default)
        assert first.args[2].target is aten.mean.dim


def test_model_tensors_keep_names_that_collide_with_scales(net: Any) -> None:
    torch.manual_seed(0)
    model = net(lambda m, x: m.h(m.a(x).relu()) * m.h.weight_scale, a=nn.Linear(6, 6),
                h=nn.Linear(6, 3))
    model.h.weight_scale = nn.Parameter(torch.tensor([1.0, -2.0, 300.0]))
    program, quantized, x = quantized_with(model)
    state = quantized.state_dict()
    assert state["h.weight_scale"].tolist() == [1, -2, 300]
    assert state["h.weight_1"].dtype == torch.int8
    assert relative_error(program.run(x), quantized.run(x)) < 0.03


def test_weights_are_coarsened_by_a_power_of_two_if_the_bias_exceeds_int32(net: Any) -> None:
    torch.manual_seed(0)
    model = net(lambda m, x: m.h(m.a(x).relu()), a=nn.Linear(6, 4), h=nn.Linear(4, 3))
    with torch.no_grad():
        model.a.weight[1] *= 1e-9
        model.a.bias.fill_(1000.0)
    program, quantized, x = quantized_with(model, Quantization(power_of_two=True))
    state = quantized.state_dict()
    assert int(state["a.bias"].abs().max()) < 2**31 - 1
    for name, value in state.items():
        if name.endswith("_scale"):
            assert all(math.frexp(scale)[0] == 0.5 for scale in value.tolist()), name
    assert relative_error(program.run(x), quantized.run(x)) < 0.02


def test_every_scale_is_a_power_of_two_with_norms_and_training_too(
        small: Program, colour_task: Task, trained_quantization: Quantization) -> None:
    for config in (Quantization(), trained_quantization):
        quantized = quantize(small, colour_task, config.replace(power_of_two=True))
        scales = [scale for name, value in quantized.state_dict().items()
                  if name.endswith("_scale") for scale in value.tolist()]
        scales += [node.args[1] for node in quantized.calls()
                   if node.target is ops.quantize_per_tensor.default]
        assert len(scales) > 30
        assert all(math.frexp(scale)[0] == 0.5 for scale in scales)


def test_a_bias_stays_a_parameter_with_any_name(net: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Module()
    layer.kernel, layer.offset = (nn.Parameter(torch.randn(3, 6)), nn.Parameter(torch.randn(3)))
    model = net(lambda m, x: nn.functional.linear(x, m.layer.kernel, m.layer.offset), layer=layer)
    program = quantize(Program.capture(model, torch.zeros(2, 6)), None,
                       Quantization(activations=None))
    assert [name for name, _ in program.graph_module.named_parameters()] == ["layer.offset"]
    assert {name for name, _ in program.graph_module.named_buffers()} == {
        "layer.kernel", "layer.kernel_scale", "layer.kernel_zero_point"}


def test_weight_only_layer_in_a_static_program(net: Any) -> None:
    torch.manual_seed(0)
    model = net(lambda m, x: m.h(m.b(F.gelu(m.a(x))).relu()), a=nn.Linear(6, 8),
                b=nn.Linear(8, 8), h=nn.Linear(8, 3))
    config = Quantization(layers={"b": Precision(weights=8, activations=None)})
    program, quantized, x = quantized_with(model, config)
    state = quantized.state_dict()
    assert (state["b.weight"].dtype, state["b.bias"].dtype) == (torch.int8, torch.float32)
    assert (state["h.weight"].dtype, state["h.bias"].dtype) == (torch.int8, torch.int32)
    assert relative_error(program.run(x), quantized.run(x)) < 0.03
    assert relative_error(quantized.run(x), on_runtime(quantized, x)) < 1e-4


def test_token_inputs_are_not_quantized(net: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = net(lambda m, words, x: m.h(torch.cat([m.e(words.view(-1, 3)).flatten(1), m.a(x)], 1)),
                e=nn.Embedding(9, 4), a=nn.Linear(5, 4), h=nn.Linear(16, 3)).eval()
    words, x = torch.randint(0, 9, (64, 3)), torch.randn(64, 5)
    program = Program.capture(model, (words[:2], x[:2]))
    placement, simulation = calibrated(program, Quantization(), words, x)
    converted = convert(program, placement, simulation)
    assert "words" not in {spot.value for point in placement.activations for spot in point.uses}
    converted.save(tmp_path / "p.pt2")
    assert torch.equal(Program.load(tmp_path / "p.pt2").run(words, x), converted.run(words, x))
    assert relative_error(program.run(words, x), converted.run(words, x)) < 0.03


@pytest.mark.parametrize(("bits", "granularity"), [(1, "per_channel"), (1, "per_tensor"),
                                                   (2, "per_channel")])
def test_a_converted_program_knows_its_bits(net: Any, bits: int, granularity: Any) -> None:
    """Also where every stored weight happens to be one of two levels."""
    torch.manual_seed(0)
    model = net(lambda m, x: m.c(m.b(m.a(x).relu()).relu()), a=nn.Linear(6, 8), b=nn.Linear(8, 8),
                c=nn.Linear(8, 3)).eval()
    with torch.no_grad():
        model.b.weight.copy_(model.b.weight.sign())
    x = torch.randn(64, 6)
    config = Quantization(weights=bits, activations=bits, granularity=granularity, method="qat")
    program = Program.capture(model, x[:2])
    converted = convert(program, *calibrated(program, config, x))
    assert {layer.name: (layer.weight_bits, layer.activation_bits)
            for layer in converted.costs().layers}["linear_1"] == (bits, bits)
