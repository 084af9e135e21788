"""One ONNX file has every branch inside an If, and runs only the branch taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.routed_models import Conditional, Gated, images

from edgewright.exporters import export
from edgewright.exporters.onnx import to_onnx
from edgewright.program import Program
from edgewright.quantization import PTQ, Quantization, quantize
from edgewright.runtime import OnnxEngine
from edgewright.task import Task


def graphs(graph: Any, depth: int = 0) -> Iterator[tuple[int, Any]]:
    yield depth, graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g, depth + 1)


def convolutions(model: bytes) -> dict[int, int]:
    """Number of convolutions by the depth of their graph."""
    found: dict[int, int] = {}
    for depth, graph in graphs(onnx.load_from_string(model).graph):
        count = sum(node.op_type == "Conv" for node in graph.node)
        found[depth] = found.get(depth, 0) + count
    return found


@pytest.fixture(scope="module")
def gated() -> Program:
    return Program.capture(Gated().eval(), images(2))


def quantized(program: Program, inputs: torch.Tensor) -> Program:
    targets = torch.arange(len(inputs)) % 3
    return quantize(program, Task((inputs, targets), test=(inputs, targets)),
                    Quantization(method=PTQ()))


@pytest.mark.parametrize("integers", [False, True])
def test_every_branch_of_a_choice_per_sample_is_inside_an_if(gated: Program, integers: bool,
                                                             tmp_path: Path) -> None:
    program = quantized(gated, images(40)) if integers else gated
    path = export(program, "onnx", tmp_path / "gated.onnx")
    model = path.read_bytes()
    assert convolutions(model) == {0: 1, 1: 3}
    engine = OnnxEngine(model)
    for count in (1, 2, 7):
        x = images(count, seed=count)
        found, = engine.run((x.numpy(),))
        assert np.allclose(found, program.run(x).numpy(), atol=2e-2 if integers else 1e-5)


def test_a_choice_per_call_is_nested_ifs() -> None:
    model = Conditional().eval()
    content = to_onnx(Program.capture(model, torch.randn(2, 4)))
    assert {depth for depth, graph in graphs(onnx.load_from_string(content).graph)
            if any(node.op_type == "If" for node in graph.node)} == {0, 1}
    engine = OnnxEngine(content)
    for seed in range(8):
        x = 3 * torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        found, = engine.run((x.numpy(),))
        assert np.allclose(found, model.reference(x).detach().numpy(), atol=1e-5)


def test_equal_programs_give_equal_bytes(gated: Program) -> None:
    assert to_onnx(gated) == to_onnx(gated.copy())
