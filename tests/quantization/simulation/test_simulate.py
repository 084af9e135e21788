"""Simulation: which quantizers are inserted where, and what stays unchanged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgewright.errors import DataError
from edgewright.program import Program, fold_batch_norm
from edgewright.quantization import MSE, Quantization, place, resolve
from edgewright.quantization.calibration import calibrate_activation_ranges, calibrate_weight_ranges
from edgewright.quantization.simulation import simulate_quantization
from edgewright.task import Task


def simulated(program: Program, config: Any, *inputs: Any) -> Any:
    simulation = simulate_quantization(program, place(program, resolve(config)))
    calibrate_weight_ranges(simulation, config.range_estimator)
    calibrate_activation_ranges(simulation, config.range_estimator, [inputs])
    return simulation


def test_quantizers_pass_values_through_until_calibrated(small: Program, colour_task: Task) -> None:
    program = fold_batch_norm(small)
    x, = colour_task.test.example(20)
    simulation = simulate_quantization(program, place(program, resolve(Quantization())))
    torch.testing.assert_close(simulation.module(x), program.run(x), rtol=0, atol=0)
    assert {quantizer.mode for quantizer in simulation.quantizers} == {"pass"}
    assert simulation.state().keys() == program.state_dict().keys()


def test_calibration_sets_every_range_and_keeps_the_program(small: Program,
                                                            colour_task: Task) -> None:
    program = fold_batch_norm(small)
    x, = colour_task.test.example(64)
    before = {name: value.clone() for name, value in program.state_dict().items()}
    config = Quantization(range_estimator="minmax")
    simulation = simulated(program, config, x)
    assert {quantizer.mode for quantizer in simulation.quantizers} == {"quantize"}
    assert all(quantizer.observer is None for quantizer in simulation.quantizers)
    scale = float(x.max().clamp(min=0) - x.min().clamp(max=0)) / 255
    assert float(simulation.activations["x"].effective_scale()) == pytest.approx(scale, rel=1e-5)
    for name, quantizer in simulation.weights.items():
        want = before[name].abs().flatten(1).amax(1) / 127
        torch.testing.assert_close(quantizer.effective_scale().detach(), want)
    torch.testing.assert_close(program.state_dict(), before, rtol=0, atol=0)


def test_layer_output_equals_quantized_weight_times_quantized_input(net: Any) -> None:
    torch.manual_seed(0)
    model = net(lambda m, x: m.a(x), a=nn.Linear(6, 3)).eval()
    x = torch.randn(32, 6)
    simulation = simulated(Program.capture(model, x[:2]), Quantization(weights=4, first_last_bits=None), x)
    read, weight = simulation.activations["inputs_0"], simulation.weights["a.weight"]
    want = read(x) @ weight(model.a.weight).T + model.a.bias
    torch.testing.assert_close(simulation.module(x), want)


@pytest.mark.parametrize("name", ["quantizers", "edgewright_quantizers"])
def test_models_may_have_submodules_named_quantizers(net: Any, name: str) -> None:
    torch.manual_seed(0)
    model = net(lambda m, x: getattr(m, name)(x).relu(),
                **{name: nn.Sequential(nn.Linear(6, 3)), f"{name}_1": nn.ReLU()})
    x = torch.randn(32, 6)
    simulation = simulated(Program.capture(model.eval(), x[:2]), Quantization(), x)
    assert simulation.state().keys() == {f"{name}.0.weight", f"{name}.0.bias"}
    assert simulation.module(x).shape == (32, 3)


def _windows(m: Any, x: Any) -> Any:
    """Windows lie along the first dimension, then the sequence does, as in Swin and LSTMs."""
    y = m.a(x.reshape(-1, 3, 4)).relu()
    return m.h(m.b(y.reshape(-1, 6, 4).transpose(0, 1)).relu()).mean(0)


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
@pytest.mark.parametrize("samples", [2, 5])
def test_each_step_size_counts_the_values_of_one_sample(net: Any, target: str,
                                                        samples: int) -> None:
    """LSQ's N, wherever the samples lie, and whatever their number."""
    torch.manual_seed(0)
    model = net(_windows, a=nn.Linear(4, 4), b=nn.Linear(4, 5), h=nn.Linear(5, 3)).eval()
    x = torch.randn(samples, 6, 4)
    program = Program.capture(model, x)
    config = Quantization(target=target, method="qat")
    simulation = simulate_quantization(program, place(program, resolve(config)), "lsq")
    calibrate_weight_ranges(simulation, config.range_estimator)
    calibrate_activation_ranges(simulation, config.range_estimator, [(x,)])
    told = {}
    for name, quantizer in simulation.activations.items():
        quantizer.register_forward_hook(
            lambda module, args, out, name=name: told.update({name: args[1]}))
    simulation.module(x)
    assert (told["relu"], told["relu_1"], told["linear_2"]) == (6 * 4, 6 * 5, 6 * 3)


def _written(m: Any, x: Any) -> Any:
    y = m.a(x).relu()
    y[:, :3] *= -2
    return m.h(y)


def test_values_modified_in_place_are_not_quantized(net: Any) -> None:
    torch.manual_seed(0)
    model = net(_written, a=nn.Linear(6, 6), h=nn.Linear(6, 3)).eval()
    x = torch.randn(64, 6)
    program = Program.capture(model, x[:2])
    simulation = simulated(program, Quantization(), x)
    assert list(simulation.activations) == ["inputs_0"]
    error = simulation.module(x).detach() - program.run(x)
    assert float(error.norm() / program.run(x).norm()) < 0.03


def test_a_weight_that_is_not_finite_is_named(small: Program) -> None:
    program = fold_batch_norm(small)
    state = {name: value.clone() for name, value in program.state_dict().items()}
    state["two.weight"][0, 0, 0, 0] = float("nan")
    simulation = simulate_quantization(broken := program.with_state(state), place(broken, resolve(Quantization())))
    with pytest.raises(DataError, match=r"calibration of two\.weight: 1 of 576 values are NaN"):
        calibrate_weight_ranges(simulation, MSE())
