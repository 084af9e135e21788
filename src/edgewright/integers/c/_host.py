"""A network's C code, compiled for this machine and called from Python."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import MissingToolError, ModelError
from edgewright.integers._network import IntegerNetwork
from edgewright.integers.c._source import CSource, write_c
from edgewright.integers.c._wide import runs_wide_kernels

_FLAGS: Final = ("-std=c99", "-O3", "-Wall", "-Wextra", "-shared", "-fPIC")
_THIS_PROCESSOR: Final = "-march=native"
_TIMEOUT: Final = 600.0  # seconds


def find_compiler() -> list[str] | None:
    """The command of this machine's C compiler: that of the variable ``CC``, or ``cc``."""
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    return command if shutil.which(command[0]) else None


@final
class CompiledNetwork:
    """An integer network that was compiled for this machine; safe to call from several threads.

    Args:
        network: The network.
        source: Its code; None to write it for this machine's processor.
        flags: Further flags for the compiler.

    Raises:
        MissingToolError: There is no C compiler.
        ModelError: The compiler failed; the message has its first errors.
    """

    def __init__(self, network: IntegerNetwork, source: CSource | None = None,
                 flags: Sequence[str] = (_THIS_PROCESSOR,)) -> None:
        self._network = network
        self._source = (write_c(network, wide=runs_wide_kernels(), values=True)
                        if source is None else source)
        self._lock = Lock()  # intermediate results lie in one static block
        with tempfile.TemporaryDirectory() as folder:
            self._library = ctypes.CDLL(str(self._compile(Path(folder), flags)))
        structure, tensors = network.structure, network.tensors
        ports = (*structure.inputs, *self._source.outputs)
        self._stored = [(port.name, np.dtype(tensors[port.tensor].dtype), port.stored_shape)
                        for port in ports]
        self._values = [(port.name, np.dtype(np.float32), port.shape) for port in ports]

    def run(self, inputs: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        """Compute the outputs of a batch; arguments and result are as in `run_reference`.

        Of a network with exits there is one output, that of the exit where each sample leaves.

        Raises:
            ValueError: An input has another dtype or shape than the network's.
        """
        return self._call(f"{self._source.name}_run", self._stored, inputs)[0]

    def run_exits(self, inputs: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The output and the number of the exit of each sample, as of `integers.run_exits`.

        Raises:
            ValueError: An input has another dtype or shape than the network's.
        """
        (output,), exits = self._call(f"{self._source.name}_run", self._stored, inputs)
        return output, exits

    def run_values(self, inputs: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        """Compute outputs in floating point from inputs in floating point, in the model's order.

        Args:
            inputs: Values per input, (N, *shape of the port), of float32.

        Returns:
            Values per output, as `from_integers` returns them.

        Raises:
            ValueError: An input has another dtype or shape than the network's.
        """
        return self._call(f"{self._source.name}_run_values", self._values, inputs)[0]

    def _call(self, function: str, ports: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]],
              inputs: Sequence[NDArray[Any]]) -> tuple[tuple[NDArray[Any], ...], NDArray[Any]]:
        """Call a function once per sample; return the results, and what it returned."""
        given = len(self._network.structure.inputs)
        if len(inputs) != given:
            raise ValueError(f"given {len(inputs)} inputs, expected {given}")
        count, arrays = len(inputs[0]), []
        for (name, dtype, shape), array in zip(ports, inputs, strict=False):
            if array.dtype != dtype or array.shape != (count, *shape):
                raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {dtype} "
                                 f"{(count, *shape)}")
            arrays.append(np.ascontiguousarray(array))
        results = tuple(np.empty((count, *shape), dtype) for _, dtype, shape in ports[given:])
        places = [(array.ctypes.data, array.nbytes // max(1, count))
                  for array in (*arrays, *results)]
        run = self._library[function]
        run.restype = ctypes.c_int32 if self._network.structure.exits else None
        with self._lock:
            returned = [run(*(ctypes.c_void_p(place + sample * size) for place, size in places))
                        for sample in range(count)]
        return results, np.array(returned if self._network.structure.exits else [], np.intp)

    def _compile(self, folder: Path, flags: Sequence[str]) -> Path:
        compiler = find_compiler()
        if compiler is None:
            raise MissingToolError("compiling a network", "gcc")
        name = self._source.name
        (folder / f"{name}.c").write_text(self._source.code)
        (folder / f"{name}.h").write_text(self._source.header)
        command = [*compiler, *_FLAGS, *flags, "-o", f"{name}.so", f"{name}.c"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                              timeout=_TIMEOUT)
        if done.returncode:
            raise ModelError(f"{' '.join(command)} failed: {done.stderr.strip()[:600]}")
        return folder / f"{name}.so"
