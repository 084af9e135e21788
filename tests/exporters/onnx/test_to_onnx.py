"""The ONNX translation: same results, with operators that the runtime has kernels for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tests.programs import Net
from torch import Tensor, nn

from edgewright.errors import ModelError
from edgewright.exporters import to_onnx
from edgewright.program import Program, output_names
from edgewright.quantization import quantize
from edgewright.runtime import OnnxEngine
from edgewright.task import Task


def relative_error(want: Any, have: Any) -> Any:
    return float(np.linalg.norm(want - have) / np.linalg.norm(want))


def optimized(model: bytes, path: Path) -> Any:
    """How often each operator is in what the runtime makes of a file."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(("name", "limit"), [("blocks", 1e-5), ("blocks_quantized", 0.02)])
def test_files_match_the_program_at_any_batch_size(name: str, limit: float, images: Tensor,
                                                   request: pytest.FixtureRequest) -> None:
    program = request.getfixturevalue(name)
    engine = OnnxEngine(request.getfixturevalue(f"{name}_file"))
    for batch in (1, 5, 64):
        x = images[:batch]
        have, = engine.run((x.numpy(),))
        assert have.shape == (batch, 3)
        assert relative_error(program.run(x).numpy(), have) < limit


def test_every_quantized_layer_and_addition_is_fused(blocks_quantized_file: bytes,
                                                     tmp_path: Path) -> None:
    counts = optimized(blocks_quantized_file, tmp_path / "o.onnx")
    assert {op: counts[op] for op in ("QLinearConv", "QLinearAdd", "QGemm")} == {
        "QLinearConv": 4, "QLinearAdd": 2, "QGemm": 2}
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "Add", "Relu"} & set(counts)
    assert counts["QuantizeLinear"] <= 2  # the input, and behind the mean


def convolution(inputs: Any, outputs: Any, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


FUSED = {
    "depthwise": (lambda m, x: m.b(m.a(x).relu()).relu(),
                  lambda: {"a": convolution(3, 4), "b": convolution(4, 4, groups=4)},
                  {"QLinearConv": 2}),
    "relu6": (lambda m, x: nn.functional.relu6(m.a(x)), lambda: {"a": convolution(3, 4)},
              {"QLinearConv": 1}),
    "concat": (lambda m, x: torch.cat([m.a(x).relu(), m.b(x).relu()], 1),
               lambda: {"a": convolution(3, 2), "b": convolution(3, 2)},
               {"QLinearConv": 2, "QLinearConcat": 1}),
    "addition": (lambda m, x: (m.a(x) + m.b(x)).relu(),
                 lambda: {"a": convolution(3, 4), "b": convolution(3, 4)},
                 {"QLinearConv": 2, "QLinearAdd": 1}),
}


@pytest.mark.parametrize("kind", FUSED)
def test_other_layer_kinds_are_fused(kind: Any, images: Tensor, as_task: Callable[[Tensor], Task],
                                     tmp_path: Path) -> None:
    function, layers, want = FUSED[kind]
    torch.manual_seed(0)
    model = Net(lambda m, x: m.head(function(m, x).mean((2, 3))), **layers(), head=nn.Linear(4, 3))
    program = Program.capture(model.eval(), images[:2])
    counts = optimized(to_onnx(quantize(program, as_task(images))), tmp_path / "o.onnx")
    assert {op: counts[op] for op in want} == want
    assert not {"Conv", "FusedConv", "Add", "Relu"} & set(counts)


@pytest.mark.parametrize("name", ["blocks", "blocks_quantized"])
def test_equal_programs_give_equal_bytes(name: str, request: pytest.FixtureRequest) -> None:
    program = request.getfixturevalue(name)
    assert to_onnx(program) == request.getfixturevalue(f"{name}_file")


def test_files_have_short_names_and_no_metadata(blocks_quantized_file: bytes) -> None:
    model = onnx.load_from_string(blocks_quantized_file)
    nodes = model.graph.node
    assert not any(node.name or node.doc_string or node.metadata_props for node in nodes)
    notes = [model, model.graph, *model.graph.input, *model.graph.output, *model.graph.value_info,
             *model.graph.initializer]
    assert not any(noted.doc_string or noted.metadata_props for noted in notes)
    assert not model.functions
    inner = {name for node in nodes for name in node.output} - {"output_0"}
    assert all(name.isdigit() for name in inner)
    assert [value.name for value in model.graph.input] == ["x"]
    assert str(__file__).encode() not in model.SerializeToString()
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 21


def test_only_the_batch_dimension_is_dynamic(blocks_file: bytes) -> None:
    model = onnx.load_from_string(blocks_file)
    for value, rest in ((model.graph.input[0], [3, 8, 8]), (model.graph.output[0], [3])):
        batch, *fixed = value.type.tensor_type.shape.dim
        assert batch.dim_param
        assert [dim.dim_value for dim in fixed] == rest


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, first: Tensor, others: dict[str, Tensor]) -> Any:
        total = self.layer(first) + others["more"]
        return {"sum": total, "rest": (first, [others["count"] + 1, total, total])}


def test_several_inputs_and_nested_outputs_are_flat_and_in_order() -> None:
    example = (torch.randn(4, 3), {"more": torch.randn(4, 3), "count": torch.tensor([1, 2, 3, 4])})
    program = Program.capture(Nested(), example)
    content = to_onnx(program)
    model = onnx.load_from_string(content)
    names = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    assert [value.name for value in model.graph.input] == names
    assert tuple(value.name for value in model.graph.output) == output_names(program)
    flat = torch.utils._pytree.tree_leaves(example)
    have = OnnxEngine(content).run(tuple(leaf.numpy() for leaf in flat))
    want = torch.utils._pytree.tree_leaves(program.run(*example))
    for expected, found in zip(want, have, strict=True):
        assert found.dtype == expected.numpy().dtype
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("function", "operator"), [
    (lambda m, x: torch.special.i0(m.a(x)), "bessel_i0"),
    (lambda m, x: torch.special.gammainc(m.a(x).exp(), m.a(x).exp()), "igamma"),
])
def test_untranslatable_operators_are_named(function: Callable[..., Any], operator: str) -> None:
    program = Program.capture(Net(function, a=nn.Linear(3, 3)), torch.zeros(1, 3))
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with pytest.raises(ModelError, match=rf"^the program has no ONNX translation: \S*{operator}\S*"
                                         r": .*; replace the operator in the model$") as caught:
        to_onnx(program)
    assert "\x1b" not in str(caught.value)
    assert logger.level == level


def test_projected_lstms_are_rejected() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.LSTM(4, 6, proj_size=3, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.cells(x)[0]

    program = Program.capture(Projected(), torch.randn(2, 5, 4))
    with pytest.raises(ModelError, match="lstm is an LSTM with proj_size, which ONNX does not"):
        to_onnx(program)
