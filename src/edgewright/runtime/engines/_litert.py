"""The LiteRT engine: ``.tflite`` files."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import MissingExtraError
from edgewright.runtime.engines._engine import REFUSALS, Arrays, FileEngine, convert, run_one_by_one
from edgewright.runtime.engines._failures import load_failure


class LiteRtEngine(FileEngine):
    """A file of `to_litert` on LiteRT's CPU kernels (XNNPACK's if available).

    Tensors of rank 4 are channels first here (N, C, H, W) and channels last in the file. Quantized
    inputs and outputs of the file are floating point here. Other inputs may have any width of
    their kind as long as the values fit into the file's dtype. The file takes one sample, so the
    samples of a batch run one after another.

    Args:
        model: The bytes of a ``.tflite`` file.
        threads: Threads inside an operator.

    Raises:
        MissingExtraError: LiteRT is not installed.
        BundleError: LiteRT cannot load the model.

    Example:
        >>> engine = LiteRtEngine(content)                            # doctest: +SKIP
        >>> engine.run((np.zeros((1, 3, 32, 32), np.float32),))       # doctest: +SKIP
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        try:
            import ai_edge_litert  # noqa: PLC0415
            from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("running a model on LiteRT", "litert") from error
        super().__init__(f"litert {ai_edge_litert.__version__}")
        self._lock = Lock()  # an interpreter has a single set of tensors
        try:
            self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        except REFUSALS as error:
            raise load_failure(self.runtime, "ai-edge-litert", error) from error
        self._inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self._outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    def _compute(self, inputs: Arrays) -> Arrays:
        if len(inputs) != len(self._inputs):
            raise ValueError(f"given {len(inputs)} inputs, expected {len(self._inputs)}")
        stored = tuple(_to_file(array, spec, f"input {index}")
                       for index, (array, spec) in enumerate(zip(inputs, self._inputs,
                                                                 strict=True)))
        return run_one_by_one(stored, self._compute_one)

    def _compute_one(self, inputs: Arrays) -> Arrays:
        with self._lock:
            for array, spec in zip(inputs, self._inputs, strict=True):
                self._interpreter.set_tensor(spec["index"], array)
            self._interpreter.invoke()
            return tuple(_from_file(self._interpreter.get_tensor(spec["index"]), spec)
                         for spec in self._outputs)


def _to_file(array: NDArray[Any], spec: dict[str, Any], name: str) -> NDArray[Any]:
    """Convert a batch to the file's layout and dtype: channels last, quantized if the file is."""
    scale, zero_point = spec["quantization"]
    kind = np.dtype(np.float32 if scale else spec["dtype"])
    sizes = [int(size) for size in spec["shape"]]
    if array.ndim == 4:
        array = np.moveaxis(array, 1, -1)
    if list(array.shape[1:]) != sizes[1:] or array.ndim != len(sizes):
        raise ValueError(f"{name} has shape {array.shape}, expected {tuple(sizes)} of any batch "
                         "size"
                         f"{', channels last' if array.ndim == 4 else ''}")
    array = convert(array, kind, name)
    if not scale:
        return array
    limits = np.iinfo(spec["dtype"])
    steps = np.rint(array * np.float32(1 / scale)) + zero_point  # rounds as the program does
    integers: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(spec["dtype"])
    return integers


def _from_file(array: NDArray[Any], spec: dict[str, Any]) -> NDArray[Any]:
    scale, zero_point = spec["quantization"]
    if scale:
        array = (array.astype(np.float32) - zero_point) * np.float32(scale)
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array
