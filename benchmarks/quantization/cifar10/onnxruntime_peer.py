"""ONNX Runtime's own static quantizer, set as its documentation advises for a CPU with VNNI.

That is: pre-processing, then quantize-dequantize pairs around uint8 activations and int8 weights,
a scale for each output channel as for convolutional networks, ranges by minimum and maximum.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from edgewright.task import Split

_BATCH: Final = 64


class _Reader:
    """Calibration images as the quantizer asks for them: batch by batch, None at the end."""

    def __init__(self, name: str, split: Split) -> None:
        self._batches: Iterator[dict[str, NDArray[Any]]] = (
            {name: batch.inputs[0].numpy()} for batch in split.batches(_BATCH))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._batches, None)


def quantize_static(float_file: bytes, calibration: Split) -> bytes:
    """The quantized ONNX file of an ONNX file in floating point."""
    quantization = _import("onnxruntime.quantization")
    preprocess = _import("onnxruntime.quantization.shape_inference").quant_pre_process
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, result = (Path(folder, f"{name}.onnx") for name in
                                    ("float", "prepared", "quantized"))
        source.write_bytes(float_file)
        preprocess(source, prepared)
        quantization.quantize_static(
            prepared, result, _Reader(_input_name(float_file), calibration),
            quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8)
        return result.read_bytes()


def _input_name(model: bytes) -> str:
    name: str = importlib.import_module("onnx").load_from_string(model).graph.input[0].name
    return name


def _import(name: str) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, by the import below
    return importlib.import_module(name)
