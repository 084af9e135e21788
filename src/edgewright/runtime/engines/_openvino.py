"""The OpenVINO engine: ``.onnx`` files on another runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgewright.errors import MissingExtraError
from edgewright.runtime.engines._engine import REFUSALS, Arrays, FileEngine
from edgewright.runtime.engines._failures import load_failure
from edgewright.runtime.engines._self_contained import check_self_contained


class OpenVinoEngine(FileEngine):
    """An ONNX model on OpenVINO's CPU plugin, computed exactly as the file specifies.

    OpenVINO's own reductions of precision are off: floating point stays float32, and the inputs of
    layers with stored weights are not quantized.

    Args:
        model: The bytes of an ``.onnx`` file without external data.
        threads: Total number of threads.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: The model refers to tensors in other files, or OpenVINO cannot load it.

    Example:
        >>> engine = OpenVinoEngine(content)                          # doctest: +SKIP
        >>> engine.run((np.zeros((1, 3, 32, 32), np.float32),))       # doctest: +SKIP
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        try:
            import openvino  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("running a model on OpenVINO", "openvino") from error
        super().__init__(f"openvino {openvino.__version__.partition('-')[0]}")
        check_self_contained(model, self.runtime, "openvino")
        settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
                    "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        core = openvino.Core()
        try:
            self._model: Any = core.compile_model(core.read_model(model), "CPU", settings)
        except REFUSALS as error:
            raise load_failure(self.runtime, "openvino", error) from error

    def _compute(self, inputs: Arrays) -> Arrays:
        self._check(inputs)
        results = self._model.create_infer_request().infer(list(inputs))  # a request per thread
        return tuple(np.array(results[output]) for output in self._model.outputs)

    def _check(self, inputs: Arrays) -> None:
        """OpenVINO itself would silently cast inputs of another type or shape."""
        expected = [f"{port.get_element_type().to_dtype()} {port.get_partial_shape()}"
                    for port in self._model.inputs]
        fits = len(inputs) == len(expected) and all(
            array.dtype == port.get_element_type().to_dtype()
            and array.ndim == port.get_partial_shape().rank.get_length()
            for array, port in zip(inputs, self._model.inputs, strict=True))
        if not fits:
            raise ValueError(f"given {[f'{array.dtype} {array.shape}' for array in inputs]}, "
                             f"expected {expected}")
