"""The OpenVINO engine computes what the ONNX Runtime one does; skipped where it is not installed."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from edgewright.errors import BundleError, MissingExtraError
from edgewright.runtime import OnnxEngine, OpenVinoEngine

installed = pytest.mark.skipif(importlib.util.find_spec("openvino") is None,
                               reason="openvino is not installed: pip install "
                                      "'edgewright[openvino]'")


def model(graph: str, **weights: np.ndarray) -> bytes:
    parsed = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {graph}')
    parsed.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name)
                                    for name, array in weights.items())
    return parsed.SerializeToString()


TWO = "(float[N] z, float[N] a) => (float[N] y, float[N] b) { y = Sub(z, a)  b = Neg(a) }"


def test_the_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgewright\[openvino\]'"):
        OpenVinoEngine(model(TWO))


@installed
def test_inputs_and_outputs_keep_the_files_order():
    engine = OpenVinoEngine(model(TWO))
    difference, negated = engine.run((np.array([5], "f4"), np.array([2], "f4")))
    assert (difference.item(), negated.item()) == (3.0, -2.0)
    assert engine.runtime.startswith("openvino 2")


@installed
@pytest.mark.parametrize("content", [
    b"", b"\x00" * 40, model("(float[N] x) => (float[N] y) { y = NoSuchOperator(x) }")])
def test_a_model_that_cannot_be_loaded(content):
    with pytest.raises(BundleError, match="cannot load the model") as caught:
        OpenVinoEngine(content)
    assert "\n" not in str(caught.value)


@installed
@pytest.mark.parametrize("inputs", [
    (np.zeros(1, "f4"),), (np.zeros(1, "f8"), np.zeros(1, "f4")),
    (np.zeros((1, 1), "f4"), np.zeros(1, "f4"))])
def test_inputs_that_do_not_fit(inputs):
    with pytest.raises(BundleError, match="the model does not take these inputs"):
        OpenVinoEngine(model(TWO)).run(inputs)


@installed
@pytest.mark.parametrize("high", [15, 255])
def test_integer_convolutions_give_the_integers_of_the_other_engine(high):
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
def test_several_threads_may_run_at_once():
    engine = OpenVinoEngine(model(TWO))
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda i: engine.run((np.full(9, i, "f4"), np.zeros(9, "f4")))[0], range(32))
    assert [set(run.tolist()) for run in runs] == [{float(i)} for i in range(32)]
