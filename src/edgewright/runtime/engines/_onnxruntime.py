"""The ONNX Runtime engine: ``.onnx`` files."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Final

from edgewright.runtime.engines._engine import Arrays, FileEngine
from edgewright.runtime.engines._failures import load_failure
from edgewright.runtime.engines._self_contained import check_self_contained

_ERRORS_ONLY: Final = 3
_EXTERNAL_FOLDER: Final = "session.model_external_initializers_file_folder_path"
_NOWHERE: Final = os.path.join(os.devnull, "edgewright")  # a folder that cannot exist


class OnnxEngine(FileEngine):
    """An ONNX model on ONNX Runtime's CPU provider, with its telemetry off.

    Args:
        model: The bytes of an ``.onnx`` file without external data.
        threads: Threads inside an operator; operators run one after another.

    Raises:
        BundleError: The model refers to tensors in other files, or ONNX Runtime cannot load it.

    Example:
        >>> import numpy as np
        >>> import onnx.parser
        >>> model = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["": 17]>
        ...     relu (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }''')
        >>> engine = OnnxEngine(model.SerializeToString())
        >>> engine.run((np.array([[-1, 2]], dtype=np.float32),))[0].tolist()
        [[0.0, 2.0]]
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        ort = _onnxruntime()
        super().__init__(f"onnxruntime {ort.__version__}", (ValueError, *_refusals(ort)))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = _ERRORS_ONLY
        # It would merge two consecutive quantizations into one with different rounding.
        options.add_session_config_entry("session.disable_double_qdq_remover", "1")
        check_self_contained(model, self.runtime, "onnxruntime")
        options.add_session_config_entry(_EXTERNAL_FOLDER, _NOWHERE)
        # Only the format that was checked above, not ONNX Runtime's own.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = ort.InferenceSession(model, options,
                                                 providers=["CPUExecutionProvider"])
        except self._refusals as error:
            raise load_failure(self.runtime, "onnxruntime", error) from error
        for node in (*self._session.get_inputs(), *self._session.get_outputs()):
            if not node.type.startswith("tensor("):
                raise load_failure(self.runtime, "onnxruntime", ValueError(
                    f"{node.name!r} is a {node.type}, but inputs and outputs must be tensors"))
        self._inputs = tuple(node.name for node in self._session.get_inputs())
        self._outputs = [node.name for node in self._session.get_outputs()]

    def _compute(self, inputs: Arrays) -> Arrays:
        return tuple(self._session.run(self._outputs, dict(zip(self._inputs, inputs, strict=True))))


def _onnxruntime() -> ModuleType:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")   # read once, at import
    import onnxruntime  # noqa: PLC0415

    return onnxruntime  # type: ignore[no-any-return]


def _refusals(ort: ModuleType) -> tuple[type[Exception], ...]:
    errors = ort.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented",
             "RuntimeException")
    return tuple(getattr(errors, name) for name in names)
