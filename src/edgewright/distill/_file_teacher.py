"""A teacher that runs an exported file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.distill._teacher import Teacher, TeacherOutput
from edgewright.errors import BundleError, ModelError
from edgewright.runtime import OnnxEngine, load
from edgewright.task import Batch

Arrays: TypeAlias = tuple[NDArray[Any], ...]


@final
class FileTeacher(Teacher):
    """An ``.onnx`` file or a bundle, run by ONNX Runtime on the CPU.

    Several outputs are a tuple, in the order of the file. Batches on another device are copied to
    the CPU and the outputs back. A bundle with early exits
    uses its last exit, regardless of its thresholds.

    Args:
        path: A file that ends in ``.onnx``, without external data; anything else is a bundle.
        threads: Threads of ONNX Runtime; None for as many as torch uses.

    Raises:
        BundleError: The file is missing, damaged, or refused by ONNX Runtime.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from edgewright.exporters import to_onnx
        >>> from edgewright.program import Program
        >>> program = Program.capture(nn.Linear(4, 3), torch.zeros(1, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "teacher.onnx")
        ...     _ = path.write_bytes(to_onnx(program))
        ...     teacher = FileTeacher(path)
        >>> batch = Batch((torch.ones(5, 4),), None, torch.arange(5))
        >>> teacher.teach(batch).outputs.shape
        torch.Size([5, 3])
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        path = Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"cannot read the teacher {path}: {error.strerror or error}; check "
                              "the path") from error
        self._run = _make_runner(path, content, threads or torch.get_num_threads())
        self._device = torch.device("cpu")
        self._init_args = (path, threads)
        self.name = f"{path.name} {hashlib.sha256(content).hexdigest()[:12]}"

    def __reduce__(self) -> tuple[Any, ...]:  # a session cannot be pickled
        path, threads = self._init_args
        return functools.partial(FileTeacher, threads=threads), (path,)

    def to(self, device: torch.device) -> None:
        """Return outputs on this device from now on."""
        self._device = device

    def teach(self, batch: Batch) -> TeacherOutput:
        """The file's output, or a tuple of its outputs.

        Raises:
            BundleError: The file does not accept these inputs.
            DataError: The inputs do not match the bundle's manifest.
            ModelError: The only output is not floating point.
        """
        results = self._run(tuple(_to_numpy(tensor) for tensor in batch.inputs))
        outputs = tuple(torch.from_numpy(result).to(self._device) for result in results)
        if len(outputs) > 1:
            return TeacherOutput(outputs)
        if not outputs[0].is_floating_point():
            raise ModelError(f"the teacher {self.name} returns {results[0].dtype}; expected "
                             "floating-point logits or values: export it without its argmax")
        return TeacherOutput(outputs[0])


def _make_runner(path: Path, content: bytes, threads: int) -> Callable[[Arrays], Arrays]:
    if path.suffix == ".onnx":
        return OnnxEngine(content, threads).run
    session = load(path, threads=threads)
    return lambda inputs: session.run_all_exits(*inputs)[-1].outputs


def _to_numpy(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
