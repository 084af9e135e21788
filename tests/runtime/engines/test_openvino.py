"""The OpenVINO engine computes what the ONNX Runtime one does; skipped where it is not installed."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx.parser
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

import edgewright as ew
from edgewright.errors import BundleError, MissingExtraError
from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.runtime import OnnxEngine, OpenVinoEngine

installed = pytest.mark.skipif(importlib.util.find_spec("openvino") is None,
                               reason="openvino is not installed: pip install "
                                      "'edgewright[openvino]'")


def model(graph: str, **weights: np.ndarray | np.generic) -> bytes:
    parsed = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {graph}')
    parsed.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name)
                                    for name, array in weights.items())
    return parsed.SerializeToString()


TWO = "(float[N] z, float[N] a) => (float[N] y, float[N] b) { y = Sub(z, a)  b = Neg(a) }"


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgewright\[openvino\]'"):
        OpenVinoEngine(model(TWO))


@installed
def test_inputs_and_outputs_keep_the_files_order() -> None:
    engine = OpenVinoEngine(model(TWO))
    difference, negated = engine.run((np.array([5], "f4"), np.array([2], "f4")))
    assert (difference.item(), negated.item()) == (3.0, -2.0)
    assert engine.runtime.startswith("openvino 2")


@installed
@pytest.mark.parametrize("content", [
    b"", b"\x00" * 40, model("(float[N] x) => (float[N] y) { y = NoSuchOperator(x) }")])
def test_a_model_that_cannot_be_loaded(content: Any) -> None:
    with pytest.raises(BundleError, match="cannot load the model") as caught:
        OpenVinoEngine(content)
    assert "\n" not in str(caught.value)


@installed
@pytest.mark.parametrize("inputs", [
    (np.zeros(1, "f4"),), (np.zeros(1, "f8"), np.zeros(1, "f4")),
    (np.zeros((1, 1), "f4"), np.zeros(1, "f4"))])
def test_inputs_that_do_not_fit(inputs: tuple[Any, ...]) -> None:
    with pytest.raises(BundleError, match="the model does not accept these inputs"):
        OpenVinoEngine(model(TWO)).run(inputs)


@installed
@pytest.mark.parametrize("high", [15, 255])
def test_integer_convolutions_give_the_integers_of_the_other_engine(high: int) -> None:
    rng = np.random.default_rng(0)
    content = model("""(float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) {
        q = QuantizeLinear(x, s, z)  c = Clip(q, , high)  d = DequantizeLinear(c, s, z)
        wd = DequantizeLinear<axis=0>(w, ws, wz)  v = Conv<pads=[1, 1, 1, 1]>(d, wd)
        r = QuantizeLinear(v, s, z)  k = Clip(r, , high)  y = DequantizeLinear(k, s, z) }""",
        w=rng.integers(-8, 8, (4, 3, 3, 3)).astype(np.int8), s=np.float32(0.1), z=np.uint8(3),
        ws=rng.uniform(0.01, 0.02, 4).astype(np.float32), wz=np.zeros(4, np.int8),
        high=np.uint8(high))
    x = rng.normal(size=(5, 3, 8, 8)).astype(np.float32)
    want, = OnnxEngine(content).run((x,))
    have, = OpenVinoEngine(content).run((x,))
    assert np.array_equal(want, have)
    assert len(np.unique(have)) > 8


@installed
def test_several_threads_may_run_at_once() -> None:
    engine = OpenVinoEngine(model(TWO))
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda i: engine.run((np.full(9, i, "f4"), np.zeros(9, "f4")))[0], range(32))
    assert [set(run.tolist()) for run in runs] == [{float(i)} for i in range(32)]


class Net(nn.Module):
    """What is tested, between two convolutions."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.first, self.a, self.b, self.last = (
            nn.Conv2d(inputs, 16, 3, padding=1) for inputs in (3, 16, 16, 16))
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self, self.first(x)))


def identity(m: Any, x: Any) -> Any:
    x = x.relu()
    return (m.b(m.a(x).relu()) + x).relu()


def projection(m: Any, x: Any) -> Any:
    x = x.relu()
    return (m.a(x) + m.b(x)).relu()


def rectified(m: Any, x: Any) -> Any:
    x = x.relu()
    return m.a(x).relu() + m.b(x).relu()


def in_place(m: Any, x: Any) -> Any:
    y = m.b(m.a(x).relu())
    y += x
    return y.relu()


def quantized(between: Any, **settings: Any) -> tuple[Any, ...]:
    torch.manual_seed(0)
    x = torch.randn(64, 3, 16, 16) + torch.tensor([1.0, 0, 0])[:, None, None]
    task = ew.Task((x, torch.arange(64) % 8), test=(x[:16], torch.arange(16) % 8))
    program = ew.Program.capture(Net(between).eval(), x[:2])
    config = ew.Quantization(target="openvino", calibration_samples=64, **settings)
    return ew.quantize(program, task, config), x[:16]


def share_that_differs(program: Program, x: Any) -> Any:
    """Of the outputs; a sum in the middle of two integers, one in thousands, may round apart."""
    want = program.module()(x).detach().numpy()
    have, = OpenVinoEngine(to_onnx(program)).run((x.numpy(),))
    return (np.abs(want - have) > 1e-4 * np.abs(want).max()).mean()


@installed
@pytest.mark.parametrize(("between", "layers"), [
    (identity, {}), (rectified, {}), (in_place, {}),
    (projection, {}), (projection, {"a": None}), (projection, {"b": None})])
def test_sums_are_computed_as_the_program_says(between: Any, layers: dict[str, Any]) -> None:
    assert share_that_differs(*quantized(between, layers=layers)) < 0.01


@installed
@pytest.mark.parametrize("between", [identity, projection])
def test_sums_run_within_integer_convolutions(between: Any) -> None:
    program, _ = quantized(between)
    operators = OpenVinoEngine(to_onnx(program))._model.get_runtime_model().get_ops()
    facts = [{key: str(value.value) for key, value in operator.get_rt_info().items()
              if key in ("layerType", "runtimePrecision")} for operator in operators]
    layers = [fact for fact in facts if fact["layerType"] == "Convolution"]
    assert [fact["runtimePrecision"] for fact in layers] == ["u8"] * 4
    assert "Eltwise" not in {fact["layerType"] for fact in facts}


@installed
@pytest.mark.parametrize(("value", "sizes", "bits"), [
    (0.0, (0, 0, 0, 0, 2, 2), 8), (0.3, (0, 0, 0, 0, 2, 2), 8), (0.3, (1, 0, 1, 0, 0, 4), 4),
    (0.3, (1, 2, 0, 1), 8)])
def test_pads_are_computed_as_the_program_says(value: float, sizes: tuple[int, ...],
                                               bits: int) -> Any:
    def padded(m: Any, x: Any) -> Any:
        return F.pad(x[:, :12] if len(sizes) > 4 else x, sizes, value=value)

    assert share_that_differs(*quantized(padded, activations=bits)) < 0.01


@installed
def test_a_pad_with_infinity_is_loaded_and_computed() -> Any:
    def padded(m: Any, x: Any) -> Any:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-float("inf")), 2)

    assert share_that_differs(*quantized(padded)) < 0.01
