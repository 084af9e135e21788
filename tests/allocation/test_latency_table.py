"""Latency tables: interpolation, scaling, and invalid files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewright.allocation import LatencyTable, LayerTimes, channel_sizes, find_layers
from edgewright.errors import StorageError
from edgewright.graph import shape_of
from edgewright.program import Program

GRID = LayerTimes((4, 8, 20), (2, 10), ((1.0, 5.0), (2.0, 6.0), (8.0, 9.0)))


def bilinear(inputs: Any, outputs: Any) -> Any:
    """By hand, in the one cell of the grid that holds the point."""
    for (i, a), (k, b) in itertools.pairwise(enumerate(GRID.inputs)):
        if a <= inputs <= b:
            s, t = (inputs - a) / (b - a), (outputs - 2) / 8
            low, high = GRID.times_ms[i], GRID.times_ms[k]
            return ((1 - s) * ((1 - t) * low[0] + t * low[1])
                    + s * ((1 - t) * high[0] + t * high[1]))
    raise AssertionError


@settings(max_examples=60, deadline=None, derandomize=True)
@given(inputs=st.floats(4, 20), outputs=st.floats(2, 10))
def test_times_are_bilinear_within_the_grid(inputs: Any, outputs: Any) -> None:
    assert GRID.at(inputs, outputs) == pytest.approx(bilinear(inputs, outputs))


def test_times_are_constant_outside_of_the_grid() -> None:
    assert (GRID.at(1, 1), GRID.at(99, 99), GRID.at(1, 99)) == (1.0, 9.0, 5.0)


def test_a_depthwise_layer_has_one_width() -> None:
    times = LayerTimes((4, 8), (), ((1.0,), (3.0,)))
    assert (times.at(6, 6), times.at(6, 999)) == (2.0, 2.0)


def test_rescaling_makes_the_layers_add_up_to_the_whole() -> None:
    table = LatencyTable("clock", {"a": GRID, "b": LayerTimes((4, 8), (), ((1.0,), (3.0,)))})
    scaled = table.rescale({"a": (20, 10), "b": (8, 8)}, 6.0)
    assert scaled.layers["a"].at(20, 10) + scaled.layers["b"].at(8, 8) == pytest.approx(6.0)
    assert scaled.layers["a"].at(4, 2) == pytest.approx(0.5)
    still = LatencyTable("clock", {"a": LayerTimes((1,), (1,), ((0.0,),))})
    assert still.rescale({"a": (1, 1)}, 5.0) == still


def test_a_table_is_the_same_after_a_save(tmp_path: Path) -> None:
    table = LatencyTable("onnxruntime 1", {"a.weight": GRID,
                                           "b": LayerTimes((4, 8), (), ((1.0,), (3.0,)))})
    table.save(tmp_path / "t.json")
    assert LatencyTable.load(tmp_path / "t.json") == table


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"runtime": "r", "layers": {"a": {}}}'])
def test_a_file_that_is_not_a_table_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "t.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StorageError, match=r"t\.json is not a table of latencies \(.*\); delete it"):
        LatencyTable.load(path)


def test_layers_are_named_by_weight_and_number_of_use() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.fc = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(self.conv(x)).mean((2, 3)))

    program = Program.capture(Twice(), torch.zeros(1, 3, 4, 4))
    layers = find_layers(program)
    assert list(layers) == ["conv.weight", "conv.weight#1", "fc.weight"]
    assert [channel_sizes(node, shape_of) for node in layers.values()] == [(3, 3), (3, 3), (3, 5)]
    table = LatencyTable("", {"fc.weight": GRID})
    assert [found[1:] for found in table.match_layers(program, shape_of)] == [(GRID, 3, 5)]
