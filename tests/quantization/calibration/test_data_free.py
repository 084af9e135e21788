from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.programs import measure_accuracies
from torch import Tensor, nn

from edgewright.errors import ModelError, UsageError
from edgewright.program import Program
from edgewright.quantization import Quantization, resolve
from edgewright.quantization.calibration import (
    calibrate_quantizers,
    create_observer,
    draw_training_inputs,
    synthesize_inputs,
)
from edgewright.quantization.placement import place
from edgewright.quantization.simulation import simulate_quantization
from edgewright.task import Task


class TwoNorms(nn.Module):
    """An unnormalized input, two norms of odd statistics."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.first = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.two, self.second = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        x = 5 + 2 * torch.randn(256, 3, 8, 8)
        for _ in range(30):
            self.train()(x)
        self.eval()

    def before_norms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one = self.one(x)
        return one, self.two(self.first(one).relu())

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.before_norms(x)[1])


def test_statistics_at_each_norm_match_the_running_statistics() -> None:
    net = TwoNorms()
    inputs, = synthesize_inputs(Program.capture(net, torch.zeros(1, 3, 8, 8)), 64)
    with torch.no_grad():
        found = net.before_norms(*inputs)
    for value, norm in zip(found, (net.first, net.second), strict=True):
        deviation = norm.get_buffer("running_var").sqrt()
        assert ((value.mean((0, 2, 3)) - norm.get_buffer("running_mean")).abs() < 0.1 * deviation).all()
        assert ((value.std((0, 2, 3)) / deviation - 1).abs() < 0.1).all()


def test_inputs_depend_on_the_seed(small: Program) -> None:
    before = small.state_dict()
    first, again, other = (torch.cat([x for x, in synthesize_inputs(small, 3, seed)])
                           for seed in (1, 1, 2))
    assert first.shape == (3, 3, 8, 8)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not first.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_int8_without_data_is_as_good_as_with(small: Program, colour_task: Task) -> None:
    scheme = resolve(Quantization())
    accuracy = {}
    for name, batches in {"real": draw_training_inputs(colour_task, 256),
                          "synthetic": synthesize_inputs(small, 64)}.items():
        simulation = simulate_quantization(small, place(small, scheme))
        quantizers = {**simulation.weights, **simulation.activations}
        for quantizer in quantizers.values():
            quantizer.observer, quantizer.mode = create_observer(
                scheme.range_estimator, quantizer.grid), "observe"
        calibrate_quantizers(simulation.module, quantizers, batches)
        accuracy[name] = measure_accuracies(simulation.module, colour_task.test)[0]
    assert accuracy["synthetic"] >= accuracy["real"] - 0.01


def test_several_inputs_are_optimized_together(net: Any) -> Any:
    def forward(self: Any, x: Tensor, y: Tensor) -> Tensor:
        return self.norm(x + self.layer(y))

    module = net(forward, layer=nn.Linear(2, 4), norm=nn.BatchNorm1d(4))
    program = Program.capture(module, (torch.zeros(1, 4), torch.zeros(1, 2)))
    (x, y), (more, _) = synthesize_inputs(program, 70)
    assert (x.shape, y.shape, more.shape) == ((64, 4), (64, 2), (6, 4))


def test_programs_without_batch_norm_are_rejected() -> None:
    program = Program.capture(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(ModelError, match=r"no batch norm .* has running statistics.*pass a task"):
        next(synthesize_inputs(program, 8))
    free = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    with pytest.raises(ModelError, match="no batch norm"):
        next(synthesize_inputs(Program.capture(free, torch.zeros(1, 2)), 8))


def test_integer_inputs_cannot_be_optimized(net: Any) -> None:
    module = net(lambda self, x: self.norm(self.words(x)), words=nn.Embedding(5, 4),
                 norm=nn.BatchNorm1d(4))
    program = Program.capture(module, torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ModelError, match=r"has type torch.int64, which cannot be optimized"):
        next(synthesize_inputs(program, 8))


def test_calibration_without_samples_is_rejected(small: Program) -> None:
    with pytest.raises(UsageError, match="needs at least 1 sample, got 0"):
        next(synthesize_inputs(small, 0))
