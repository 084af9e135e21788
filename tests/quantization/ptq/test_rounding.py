"""Learned rounding: weights stay on their grids, and outputs get closer to the original."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgewright.program import Program, fold_batch_norm
from edgewright.quantization import BRECQ, AdaRound, Quantization, place, quantize, resolve
from edgewright.quantization._quantize import _Quantized
from edgewright.quantization.calibration import draw_training_inputs
from edgewright.quantization.ptq import learn_rounding
from edgewright.quantization.simulation import simulate_quantization
from edgewright.task import Task

BITS = resolve(Quantization(weights=3, first_last_bits=None, calibration_samples=128))


@pytest.fixture
def prepared(small: Program, colour_task: Task) -> tuple[Any, ...]:
    program = fold_batch_norm(small)
    placement = place(program, BITS)
    simulation = simulate_quantization(program, placement)
    simulation.module.requires_grad_(False)
    _Quantized(program, placement, BITS, simulation).calibrate_ranges(
        lambda: draw_training_inputs(colour_task, 128))
    return program, placement, simulation


@pytest.mark.parametrize("rounding", [AdaRound(150), BRECQ(150)], ids=str)
def test_outputs_come_closer_and_weights_move_by_less_than_a_step(prepared: Any, colour_task: Task,
                                                                  rounding: Any) -> None:
    program, placement, simulation = prepared
    before = {name: value.clone() for name, value in simulation.state().items()}
    x, = colour_task.train.example(128)
    other, = colour_task.test.example(200)
    wanted = program.run(other)
    first = float((simulation.module(other) - wanted).norm())
    learn_rounding(program, placement, simulation, (x,), rounding, seed=0)
    assert float((simulation.module(other) - wanted).norm()) < 0.9 * first
    after = simulation.state()
    for point in placement.weights:
        quantizer = simulation.weights[point.tensor]
        scale = quantizer.effective_scale().reshape(-1, *[1] * (before[point.tensor].ndim - 1))
        integers = after[point.tensor] / scale
        torch.testing.assert_close(integers, integers.round(), rtol=0, atol=1e-4)
        assert torch.equal(quantizer.integers(after[point.tensor]), integers.round())
        inside = (before[point.tensor] / scale).clamp(*point.grid.limits)
        assert float((integers - inside).abs().max()) < 1 + 1e-4
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert set(changed) == {point.tensor for point in placement.weights}


def test_same_seed_gives_the_same_rounding(prepared: Any, colour_task: Task) -> None:
    program, placement, simulation = prepared
    start = {name: value.clone() for name, value in simulation.module.state_dict().items()}
    x, = colour_task.train.example(64)
    found = []
    for _ in range(2):
        simulation.module.load_state_dict(start)
        learn_rounding(program, placement, simulation, (x,), BRECQ(20), seed=3)
        found.append({name: value.clone() for name, value in simulation.state().items()})
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


class Attentive(nn.Module):
    """Attention has the batch in the second dimension; 40 samples are a whole batch and a rest."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x).mean(1))


@pytest.mark.parametrize("rounding", ["adaround", "brecq"])
def test_layers_with_the_batch_in_another_dimension(rounding: Any) -> None:
    x, y = torch.randn(80, 6, 8, generator=torch.Generator().manual_seed(0)), torch.arange(80) % 3
    task = Task((x, y), test=(x[:20] + 0.1, y[:20]))
    program = Program.capture(Attentive().eval(), x[:2], dynamic={"x": {1: (2, 16)}})
    nearest, learned = (quantize(program, task, Quantization(
        weights=3, first_last_bits=None, calibration_samples=40, method={"ptq": {"rounding": kind}}))
        for kind in ("nearest", {rounding: 60}))
    want = program.run(x[:20, :4])  # of another length
    errors = [float((found.run(x[:20, :4]) - want).norm()) for found in (nearest, learned)]
    assert errors[1] < errors[0]
