"""Learned rounding: weights stay on their grids, and outputs get closer to the original."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgewright.program import Program, fold_batch_norm
from edgewright.quantization import BRECQ, AdaRound, Quantization, place, resolve
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
