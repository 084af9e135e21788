"""A teacher that is an exported file."""

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

from edgewright.distill._teacher import Taught, Teacher
from edgewright.errors import BundleError, ModelError
from edgewright.runtime import OnnxEngine, load
from edgewright.task import Batch

Arrays: TypeAlias = tuple[NDArray[Any], ...]


@final
class FileTeacher(Teacher):
    """An ``.onnx`` file or a bundle, run by ONNX Runtime on the CPU; its one output teaches.

    It does not move: a batch on another device is fetched, and the logits are sent there. A bundle
    with early exits speaks through its last one, whatever its thresholds.

    Args:
        path: A file that ends in ``.onnx``, without external data; anything else is a bundle.
        threads: Of ONNX Runtime; None for as many as torch has.

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
        self._run = _runner(path, content, threads or torch.get_num_threads())
        self._device = torch.device("cpu")
        self._made_from = (path, threads)
        self.name = f"{path.name} {hashlib.sha256(content).hexdigest()[:12]}"

    def __reduce__(self) -> tuple[Any, ...]:  # a session cannot be sent to another process
        path, threads = self._made_from
        return functools.partial(FileTeacher, threads=threads), (path,)

    def to(self, device: torch.device) -> None:
        """From now on, hand out logits on this device."""
        self._device = device

    def teach(self, batch: Batch) -> Taught:
        """The file's output.

        Raises:
            BundleError: The file does not take these inputs.
            DataError: The bundle takes other inputs.
            ModelError: There are several outputs, or they are not floating point.
        """
        output, *others = self._run(tuple(_array(tensor) for tensor in batch.inputs))
        if others:
            raise ModelError(f"the teacher {self.name} puts out {len(others) + 1} tensors, and "
                             "which of them teaches is not guessed; export it with the logits "
                             "alone, or give the program or the bundle, which know their exits")
        if not np.issubdtype(output.dtype, np.floating):
            raise ModelError(f"the teacher {self.name} puts out {output.dtype}; expected logits, "
                             "floating point numbers: export it without its argmax")
        return Taught(torch.from_numpy(output).to(self._device))


def _runner(path: Path, content: bytes, threads: int) -> Callable[[Arrays], Arrays]:
    if path.suffix == ".onnx":
        return OnnxEngine(content, threads).run
    session = load(path, threads=threads)
    return lambda inputs: session.run_all_exits(*inputs)[-1]


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
