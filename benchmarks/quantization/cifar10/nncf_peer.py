"""NNCF's post-training quantization of the model in OpenVINO, and OpenVINO to run the result.

The model is read from the same ONNX file in floating point, quantized with NNCF's defaults but for
the number of images (its 300 would be fewer than the others see), and stored as OpenVINO stores
it. Float parts are computed in float32: bfloat16, its default where there is hardware for it,
would be another model.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from edgewright.task import Split

_ONE_THREAD: Final = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1",
                      "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}


def quantize_nncf(float_file: bytes, calibration: Split) -> dict[str, bytes]:
    """The quantized model's two OpenVINO files, by suffix."""
    os.environ.setdefault("NNCF_CI", "1")  # no telemetry
    nncf, openvino = map(importlib.import_module, ("nncf", "openvino"))
    images = [batch.inputs[0].numpy() for batch in calibration.batches(1)]
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "float.onnx"), Path(folder, "quantized.xml")
        source.write_bytes(float_file)
        model = openvino.convert_model(source)
        quantized = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images))
        openvino.save_model(quantized, result)
        return {suffix: result.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")}


class OpenVinoEngine:
    """A stored OpenVINO model on the CPU, on one thread.

    Args:
        path: Its ``.xml``, beside its ``.bin``.
    """

    def __init__(self, path: Path) -> None:
        openvino: Any = importlib.import_module("openvino")
        self._model = openvino.Core().compile_model(path, "CPU", _ONE_THREAD)
        self._request = self._model.create_infer_request()
        self.runtime = f"openvino {openvino.__version__.split('-')[0]}"

    def run(self, inputs: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        """Compute all outputs of the model, from its inputs in their order."""
        found = self._request.infer(dict(enumerate(inputs)), share_inputs=True)
        return tuple(found.to_tuple())
