from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import DataError, UsageError
from edgewright.program import Program
from edgewright.quantization import MinMax
from edgewright.quantization.calibration import (
    calibrate_quantizers,
    create_observer,
    draw_training_inputs,
)
from edgewright.quantization.scheme._grid import Grid
from edgewright.quantization.simulation._fake_quantizer import FakeQuantizer
from edgewright.task import Task

MINMAX = MinMax()


def task_of(train: int, shape: tuple[int, ...] = (3,)) -> Task:
    x, y = torch.randn(train, *shape), torch.arange(train) % 2
    return Task((x, y), (x[:1], y[:1]), (x[1:2], y[1:2]))


def observing() -> FakeQuantizer:
    quantizer = FakeQuantizer(Grid(8, signed=False, symmetric=False, role="activation"))
    quantizer.observer, quantizer.mode = create_observer(MINMAX, quantizer.grid), "observe"
    return quantizer


class Watched(nn.Module):
    """Quantizers before and after a layer, and one that nothing reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after, self.aside = observing(), observing(), observing()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.linear(self.before(x)))
        return out


def test_training_inputs_are_random_samples_once_each() -> None:
    task = task_of(200)
    parts = [inputs for inputs, in draw_training_inputs(task, 150, seed=3)]
    assert [len(part) for part in parts] == [64, 64, 22]
    rows = {tuple(row) for row in torch.cat(parts).tolist()}
    assert len(rows) == 150
    assert rows <= {tuple(row) for row in task.train.example(200)[0].tolist()}
    again = [inputs for inputs, in draw_training_inputs(task, 150, seed=3)]
    assert all(map(torch.equal, parts, again))
    assert not torch.equal(parts[0], next(draw_training_inputs(task, 150, seed=4))[0])


@pytest.mark.parametrize("samples", [5, 6, 1000])
def test_requesting_too_many_samples_yields_all_of_them(samples: int) -> None:
    assert [len(inputs) for inputs, in draw_training_inputs(task_of(5), samples)] == [5]


def test_calibration_without_samples_is_rejected() -> None:
    with pytest.raises(UsageError, match="needs at least 1 sample, got 0"):
        next(draw_training_inputs(task_of(5), 0))
    with pytest.raises(DataError, match=r"got no samples.*pass training data"):
        calibrate_quantizers(nn.Identity(), {"x": observing()}, [])


def test_ranges_cover_all_samples() -> None:
    task, net = task_of(200), Watched()
    calibrate_quantizers(net, {"x": net.before, "linear": net.after}, draw_training_inputs(task, 200))
    x, = task.train.example(200)
    with torch.no_grad():
        values = {net.before: x, net.after: net.linear(x)}
    for quantizer, value in values.items():
        assert quantizer.mode == "quantize"
        assert quantizer.observer is None
        assert quantizer.scale.item() == pytest.approx(
            float(value.max() - value.min()) / 255, rel=1e-5)


def test_quantizers_without_values_are_named_in_the_error() -> None:
    net = Watched()
    with pytest.raises(DataError, match=r"calibration of aside: .*no values were observed"):
        calibrate_quantizers(net, {"x": net.before, "aside": net.aside}, draw_training_inputs(task_of(5), 5))


def test_values_that_are_not_finite_are_named_in_the_error() -> None:
    net = Watched()
    with torch.no_grad():
        net.linear.weight.fill_(float("inf"))
    with pytest.raises(DataError, match=r"calibration of linear: .* are NaN or infinite.*remove"):
        calibrate_quantizers(net, {"x": net.before, "linear": net.after}, draw_training_inputs(task_of(5), 5))


def test_quantizers_must_be_in_observe_mode() -> None:
    quantizer = observing()
    quantizer.mode = "pass"
    with pytest.raises(UsageError, match="the quantizer of x is in mode 'pass'"):
        calibrate_quantizers(quantizer, {"x": quantizer}, [(torch.ones(2),)])


def test_no_data_is_read_without_quantizers() -> None:
    def never() -> Iterator[Any]:
        yield pytest.fail("a batch was read")

    net = nn.Identity()
    calibrate_quantizers(net, {}, never())
    assert list(net.children()) == []


@pytest.mark.parametrize(("shape", "message"), [
    ((3, 6, 6), r"have shape \(3, 6, 6\), but the program expects shape \(3, 8, 8\)"),
    ((3, 8), r"have shape \(3, 8\), but the program expects"),
])
def test_samples_of_wrong_shape_report_both_shapes(small: Program, shape: tuple[int, ...],
                                                   message: str) -> None:
    module = small.module()
    with pytest.raises(DataError, match=message):
        calibrate_quantizers(module, {"x": observing()}, draw_training_inputs(task_of(5, shape), 5))


def test_wrong_numbers_of_inputs_are_rejected(small: Program) -> None:
    two = [(torch.ones(2, 3, 8, 8), torch.ones(2, 4))]
    with pytest.raises(DataError, match=r"have 2 inputs of shapes \(3, 8, 8\), \(4,\), but"):
        calibrate_quantizers(small.module(), {"x": observing()}, two)
