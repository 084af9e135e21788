"""Weights that the converter wrote in floating point are stored as integers again."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.exporters import to_litert
from edgewright.exporters.edge._litert_weights import (
    LiteRtWeight,
    find_stored_weights,
    store_integers,
)
from edgewright.program import Program
from edgewright.quantization import Quantization, quantize

needs_litert = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("litert_torch", "ai_edge_litert")),
    reason="litert_torch and ai_edge_litert are not installed: pip install 'edgewright[litert]'")


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.full, self.depthwise = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, groups=32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.depthwise(self.full(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    captured = Program.capture(Layers().eval(), torch.zeros(2, 3, 8, 8))
    return quantize(captured, None, Quantization(target="litert", activations=None))


def test_weights_are_found_in_every_layout_of_a_file(program: Program) -> None:
    found = find_stored_weights(program.graph_module)
    assert [(weight.integers.shape, weight.axis) for weight in found] == [
        ((32, 3, 3, 3), 0), ((32, 3, 3, 1), 0), ((1, 3, 3, 32), 3), ((10, 32), 0)]
    state = program.state_dict()
    scales = state["depthwise.weight_scale"].reshape(-1, 1, 1, 1)
    real = (state["depthwise.weight"] * scales).permute(1, 2, 3, 0)
    assert np.array_equal(found[2].real, real.numpy())


@pytest.fixture(scope="module")
def written(program: Program) -> tuple[bytes, bytes]:
    """The file as the converter wrote it, and with the weights as integers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgewright.exporters.edge._litert.store_integers", lambda content, _: content)
        before = to_litert(program)
    return before, to_litert(program)


@pytest.fixture
def schema() -> Any:
    return pytest.importorskip("ai_edge_litert.schema_py_generated")


def constants(content: Any, schema: Any) -> tuple[Any, ...]:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    graph, = model.subgraphs
    return {tuple(tensor.shape): tensor for tensor in graph.tensors
            if model.buffers[tensor.buffer].data is not None}, model


@needs_litert
def test_file_contains_the_integers_of_the_program(program: Program, written: tuple[bytes, bytes],
                                                   schema: Any) -> None:
    have, model = constants(written[1], schema)
    for name, shape in (("full", (32, 3, 3, 3)), ("depthwise", (1, 3, 3, 32)), ("head", (10, 32))):
        tensor = have[shape]
        assert tensor.type == schema.TensorType.INT8
        weight = program.state_dict()[f"{name}.weight"]
        weight = weight.permute(*{"full": (0, 2, 3, 1), "depthwise": (1, 2, 3, 0)}.get(name, (0, 1)))
        data = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.int8)
        assert np.array_equal(data.reshape(shape), weight.numpy())
        assert np.allclose(tensor.quantization.scale, program.state_dict()[f"{name}.weight_scale"])


@needs_litert
def test_file_is_smaller_by_three_bytes_per_weight(written: tuple[bytes, bytes],
                                                   schema: Any) -> None:
    before, after = written
    was, _ = constants(before, schema)
    floats = sum(int(np.prod(shape)) for shape, tensor in was.items()
                 if len(shape) > 1 and tensor.type == schema.TensorType.FLOAT32)
    assert floats >= 320
    assert len(after) < len(before) - 3 * floats + 800


@needs_litert
def test_constants_are_aligned(written: tuple[bytes, bytes], schema: Any) -> None:
    model = schema.Model.GetRootAs(written[1])
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers
              if not buffer.DataIsNone()]
    assert starts
    assert all(start % 16 == 0 for start in starts)


@needs_litert
def test_files_without_these_weights_are_unchanged(written: tuple[bytes, bytes]) -> None:
    other = LiteRtWeight(np.ones((10, 32), np.int8), np.ones(10, np.float32), 0)
    assert store_integers(written[0], (other,)) is written[0]
    assert store_integers(written[0], ()) is written[0]
