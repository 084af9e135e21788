"""Timing layers: what is timed (with a synthetic clock), and that the timed files compute the layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from edgewright.allocation import find_layers
from edgewright.channels import find_groups
from edgewright.errors import UsageError
from edgewright.graph import draw_random_inputs
from edgewright.program import Program
from edgewright.runtime import OnnxEngine
from edgewright.timing import measure_layers
from edgewright.timing._layer_timing import (
    LayerShape,
    layer_shape,
    make_layer_model,
    time_on_runtime,
)


class Clock:
    """Says that a layer takes its outputs times its inputs, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, shape: Any, sizes: Any) -> Any:
        self.asked.append((shape, tuple(sizes)))
        return [float(inputs * outputs) for inputs, outputs in sizes]


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.point = nn.Conv2d(32, 64, 1)
        self.again = nn.Conv2d(64, 64, 1)
        self.more = nn.Conv2d(64, 64, 1)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.point(self.deep(self.stem(x)).relu())
        return self.head(self.more(self.again(x).relu()).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def layers() -> Any:
    return Program.capture(Layers(), torch.zeros(1, 3, 8, 8))


def test_each_layer_is_timed_at_a_grid_of_prunable_widths(layers: Any) -> None:
    clock = Clock()
    table = measure_layers(layers, find_groups(layers), 10.0, timer=clock)
    grid = {key: (times.inputs, times.outputs) for key, times in table.layers.items()}
    assert grid == {
        "stem.weight": ((3,), (1, 8, 16, 24, 32)),
        "deep.weight": ((1, 8, 16, 24, 32), ()),
        "point.weight": ((1, 8, 16, 24, 32), (1, 16, 32, 48, 64)),
        "again.weight": ((1, 16, 32, 48, 64), (1, 16, 32, 48, 64)),
        "more.weight": ((1, 16, 32, 48, 64), (1, 16, 32, 48, 64)),
        "head.weight": ((1, 16, 32, 48, 64), (5,)),
    }
    assert len(clock.asked) == 5  # two layers are of one shape
    assert clock.asked[1][1] == ((1, 1), (8, 8), (16, 16), (24, 24), (32, 32))


def test_the_table_adds_up_to_the_whole(layers: Any) -> None:
    table = measure_layers(layers, find_groups(layers), 10.0, timer=Clock())
    products = {"stem": 3 * 32, "deep": 32 * 32, "point": 32 * 64, "again": 64 * 64,
                "more": 64 * 64, "head": 64 * 5}
    scale = 10.0 / sum(products.values())
    for name, product in products.items():
        times = table.layers[f"{name}.weight"]
        assert times.times_ms[-1][-1] == pytest.approx(scale * product)


def test_a_stored_table_is_read_and_not_measured_again(layers: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    first, second = Clock(), Clock()
    table = measure_layers(layers, find_groups(layers), 10.0, path=path, timer=first)
    again = measure_layers(layers, find_groups(layers), 10.0, path=path, timer=second)
    assert (len(first.asked), len(second.asked)) == (5, 0)
    assert list(again.layers) == list(table.layers)
    stored = json.loads(path.read_text())
    assert stored["layers"]["stem.weight"]["inputs"] == [3]


def test_a_table_of_another_program_is_refused(layers: Any, tmp_path: Path) -> None:
    other = Program.capture(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)), torch.zeros(1, 3))
    measure_layers(other, find_groups(other), 1.0, path=tmp_path / "t.json", timer=Clock())
    with pytest.raises(UsageError, match=r"the latency table in .*t\.json is for another "
                                         r"program: it has nothing for stem.weight, whose widths "
                                         r"are \(3, 32\); use another file"):
        measure_layers(layers, find_groups(layers), 1.0, path=tmp_path / "t.json", timer=Clock())


def test_a_program_without_layers_is_refused() -> None:
    program = Program.capture(nn.BatchNorm1d(4), torch.zeros(2, 4))
    with pytest.raises(UsageError, match="there is no convolution or linear layer to time"):
        measure_layers(program, find_groups(program), 1.0, timer=Clock())


@pytest.mark.parametrize(("layer", "size"), [
    (nn.Conv2d(6, 4, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (6, 9, 7)),
    (nn.Conv2d(6, 4, 3, padding="same"), (6, 9, 7)),
    (nn.Conv1d(6, 4, 3, padding="valid"), (6, 9)),
    (nn.Conv2d(6, 12, 3, groups=3), (6, 9, 7)),
    (nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 9, 7)),
    (nn.ConvTranspose2d(6, 4, 2, stride=2), (6, 5, 5)),
    (nn.Linear(6, 4), (6,)),
    (nn.Linear(6, 4), (9, 6)),
], ids=lambda value: str(value)[:40])
def test_the_timed_file_computes_what_the_layer_computes(layer: Any, size: tuple[int, ...]) -> None:
    layer.bias = None
    program = Program.capture(layer, torch.zeros(1, *size))
    node, = find_layers(program).values()
    widths = (layer.weight.shape[1], layer.weight.shape[0]) if isinstance(layer, nn.Linear) else (
        layer.in_channels, layer.out_channels)
    model = make_layer_model(layer_shape(node), *widths)
    weight = torch.from_numpy(_weights(model))
    layer.weight = nn.Parameter(weight.T if isinstance(layer, nn.Linear) else weight)
    x = draw_random_inputs(program.example_inputs, seed=0)[0][:1]
    found, = OnnxEngine(model).run((x.numpy(),))
    with torch.no_grad():
        np.testing.assert_allclose(found, layer(x).numpy(), rtol=1e-3, atol=1e-4)


def _weights(model: bytes) -> Any:
    return numpy_helper.to_array(onnx.load_from_string(model).graph.initializer[0]).copy()


def test_the_runtime_times_every_width() -> None:
    shape = LayerShape("Conv", (4, 4), (3, 3), (1, 1), (1, 1), (1, 1))
    times = time_on_runtime(shape, [(1, 2), (3, 4)])
    assert len(times) == 2
    assert all(time > 0 for time in times)
    model = make_layer_model(shape, 3, 4)
    x = np.ones((1, 3, 4, 4), dtype=np.float32)
    want = F.conv2d(torch.from_numpy(x), torch.from_numpy(_weights(model)), padding=1)
    np.testing.assert_allclose(OnnxEngine(model).run((x,))[0], want.numpy(), rtol=1e-4, atol=1e-4)
