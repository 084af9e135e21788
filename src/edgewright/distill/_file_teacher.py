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
    """An ``.onnx`` file or a bundle with one output, run by ONNX Runtime on the CPU.

    Batches on another device are copied to the CPU and the logits back. A bundle with early exits
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
        >>> batch = Batch((torch.ones(5, 4),), torch.zeros(5), torch.arange(5))
        >>> teacher.teach(batch).logits.shape
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
        """Return logits on this device from now on."""
        self._device = device

    def teach(self, batch: Batch) -> TeacherOutput:
        """The file's output.

        Raises:
            BundleError: The file does not accept these inputs.
            DataError: The inputs do not match the bundle's manifest.
            ModelError: There are several outputs, or they are not floating point.
        """
        output, *others = self._run(tuple(_to_numpy(tensor) for tensor in batch.inputs))
        if others:
            raise ModelError(f"the teacher {self.name} returns {len(others) + 1} tensors, and it "
                             "is ambiguous which one to learn from; export it with only the "
                             "logits, or give the program or the bundle, which know their exits")
        if not np.issubdtype(output.dtype, np.floating):
            raise ModelError(f"the teacher {self.name} returns {output.dtype}; expected "
                             "floating-point logits: export it without its argmax")
        return TeacherOutput(torch.from_numpy(output).to(self._device))


def _make_runner(path: Path, content: bytes, threads: int) -> Callable[[Arrays], Arrays]:
    if path.suffix == ".onnx":
        return OnnxEngine(content, threads).run
    session = load(path, threads=threads)
    return lambda inputs: session.run_all_exits(*inputs)[-1]


def _to_numpy(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
