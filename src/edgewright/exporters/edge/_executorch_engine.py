"""The ExecuTorch engine: runs ``.pte`` files on the kernels of XNNPACK.

It is not part of the edge wing, because ExecuTorch's Python binding needs torch tensors.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, Final

import numpy as np
import torch

from edgewright.errors import MissingExtraError
from edgewright.runtime.engines import REFUSALS, Arrays, FileEngine, load_failure, run_one_by_one

_KINDS: Final = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16",
                 6: "float32", 7: "float64", 11: "bool"}  # by ExecuTorch's type number


class ExecuTorchEngine(FileEngine):
    """Runs a file of `to_executorch` on ExecuTorch; a `runtime.Engine`.

    The file takes one sample, so the samples of a batch are run one by one.

    Args:
        model: The bytes of a ``.pte`` file.
        threads: Number of threads, shared by all such engines in the process; the most recently
            created engine sets it.

    Raises:
        MissingExtraError: ExecuTorch is not installed.
        BundleError: ExecuTorch cannot load the model.

    Example:
        >>> engine = ExecuTorchEngine(content)                        # doctest: +SKIP
        >>> engine.run((np.zeros((1, 3, 32, 32), np.float32),))       # doctest: +SKIP
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        try:
            from executorch import version  # noqa: PLC0415
            from executorch.extension.pybindings import portable_lib  # noqa: PLC0415
            from executorch.runtime import Runtime  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("running a model on ExecuTorch", "executorch") from error
        super().__init__(f"executorch {version.__version__.partition('+')[0]}")
        self._lock = Lock()  # a method has only one memory plan
        portable_lib._unsafe_reset_threadpool(threads)
        try:
            self._program: Any = Runtime.get().load_program(model)
            self._method: Any = self._program.load_method("forward")
            meta = self._method.metadata
            count = meta.num_inputs()
            specs = [meta.input_tensor_meta(index) for index in range(count)]
            self._shapes = [tuple(spec.sizes()) for spec in specs]
            self._kinds = [np.dtype(_KINDS[spec.dtype()]) for spec in specs]
        except REFUSALS as error:
            raise load_failure(self.runtime, "executorch", error) from error

    def _compute(self, inputs: Arrays) -> Arrays:
        self._check(inputs)
        return run_one_by_one(inputs, self._run_sample)

    def _run_sample(self, inputs: Arrays) -> Arrays:
        tensors = [torch.from_numpy(np.array(array, order="C")) for array in inputs]
        with self._lock:
            return tuple(np.array(output.numpy()) for output in self._method.execute(tensors))

    def _check(self, inputs: Arrays) -> None:
        have = [array.shape for array in inputs]
        if (not have or [shape[1:] for shape in have] != [shape[1:] for shape in self._shapes]
                or len({len(array) for array in inputs}) != 1 or not len(inputs[0])):
            raise ValueError(f"given shapes {have}, expected {self._shapes} with any batch")
        kinds = [array.dtype for array in inputs]
        if kinds != self._kinds:  # the runtime would reinterpret the bytes
            raise ValueError(f"given {', '.join(map(str, kinds))}, expected "
                             f"{', '.join(map(str, self._kinds))}")
