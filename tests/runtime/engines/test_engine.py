"""The ONNX Runtime engine, and what running a bundle loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, NoReturn

import numpy as np
import onnx.parser
import onnxruntime
import pytest

from edgewright.bundle import Bundle
from edgewright.errors import BundleError
from edgewright.runtime import OnnxEngine
from edgewright.runtime.engines import FileEngine, run_one_by_one

WORKSHOP = {"torch", "torchao", "onnx", "onnxscript", "onnx_ir", "datasets", "sklearn", "scipy",
            "lightning_fabric", "PIL", "rich", "typer"}


def _model(body: str) -> bytes:
    text = f'<ir_version: 8, opset_import: ["": 17]> g {body}'
    return onnx.parser.parse_model(text).SerializeToString()


def _python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], text=True,
                          capture_output=True, check=True, env=environment)


def test_inputs_and_outputs_keep_the_files_order() -> None:
    engine = OnnxEngine(_model("(float[N] z, float[N] a) => (float[N] y, float[N] b) "
                               "{ y = Sub(z, a)  b = Neg(a) }"))
    difference, negated = engine.run((np.array([5], "f4"), np.array([2], "f4")))
    assert (difference.item(), negated.item()) == (3.0, -2.0)


def test_runtime_names_its_version() -> None:
    engine = OnnxEngine(_model("(float[N] x) => (float[N] y) { y = Neg(x) }"))
    assert engine.runtime == f"onnxruntime {onnxruntime.__version__}"


@pytest.mark.parametrize("model", [
    b"", b"\x00" * 40, _model("(float[N] x) => (float[N] y) { y = NoSuchOperator(x) }")])
def test_model_that_cannot_be_loaded(model: Any) -> None:
    with pytest.raises(BundleError, match="cannot load the model") as caught:
        OnnxEngine(model)
    assert "\n" not in str(caught.value)


class Failing(FileEngine):
    """Raises what it was given."""

    def __init__(self, error: Exception) -> None:
        super().__init__("a runtime 1.0", (ValueError,))
        self._error = error

    def _compute(self, inputs: Any) -> NoReturn:
        raise self._error


def test_only_what_a_runtime_refuses_is_told_as_a_refusal() -> None:
    assert Failing(ValueError()).runtime == "a runtime 1.0"
    with pytest.raises(BundleError, match="the model does not accept these inputs: two are too many"):
        Failing(ValueError("two are too many")).run(())
    with pytest.raises(KeyError):
        Failing(KeyError()).run(())


def test_samples_run_one_after_another_and_keep_their_order() -> None:
    sizes = []

    def run(inputs: Any) -> tuple[Any, ...]:
        sizes.append([array.shape for array in inputs])
        return inputs[0] - inputs[1], inputs[1].sum(1)

    a, b = np.arange(6.0).reshape(3, 2), np.ones((3, 2))
    difference, total = run_one_by_one((a, b), run)
    assert np.array_equal(difference, a - 1)
    assert total.tolist() == [2, 2, 2]
    assert sizes == [[(1, 2), (1, 2)]] * 3


@pytest.mark.parametrize("counts", [(), (0,), (0, 0), (1, 2)])
def test_samples_that_are_none_or_differ_in_number_are_refused(counts: tuple[Any, ...] | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected the same number in each input, at least one"):
        run_one_by_one(tuple(np.zeros((count, 2)) for count in counts), lambda inputs: inputs)


def test_importing_edgewright_loads_none_of_its_dependencies() -> None:
    code = "import sys, json; import edgewright; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(_python(code).stdout)}
    assert "edgewright" in loaded
    assert not loaded & (WORKSHOP | {"numpy", "onnxruntime", "pydantic"})


def test_running_a_bundle_loads_nothing_of_the_workshop_and_sends_nothing(staged_bundle: Bundle) -> None:
    code = """if True:
        import json, os, sys
        import numpy as np
        import edgewright
        session = edgewright.load(sys.argv[1])
        exits = session(np.ones((3, 4), np.float32)).exit.tolist()
        print(json.dumps([exits, os.environ["ORT_DISABLE_TELEMETRY"], sorted(sys.modules)]))
    """
    done = _python(code, staged_bundle.path)
    exits, telemetry_off, modules = json.loads(done.stdout)
    assert len(exits) == 3
    assert telemetry_off == "1"
    assert not {name.partition(".")[0] for name in modules} & WORKSHOP
    rooms = {name.split(".")[1] for name in modules if name.startswith("edgewright.")}
    assert rooms == {"_extras", "bundle", "core", "errors", "runtime"}
