"""Where a forward pass reads tensor values into Python: an `if`, an `int()`, an `.item()`.

Tracing has no values. The value of a tensor that does not depend on inputs is constant, and a run
before the tracing records it. A read of a value that depends on an input is an error, reported with
its line.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from edgewright.errors import ModelError

_READS: Final = {
    Tensor.__bool__: "branches on", Tensor.__contains__: "branches on",
    Tensor.item: "reads", Tensor.tolist: "reads", Tensor.__int__: "reads",
    Tensor.__float__: "reads", Tensor.__index__: "reads", Tensor.__complex__: "reads",
    Tensor.numpy: "passes to numpy", Tensor.__array__: "passes to numpy",
}
# With the separator, because the folders torchvision and torchmetrics lie beside torch.
LIBRARY_PATHS: Final = (f"{Path(torch.__file__).parent}{os.sep}",
                        f"{Path(__file__).parent}{os.sep}", "<")
SourceLine = tuple[str, int]


class InputDependentReadError(ModelError):
    """A value that depends on an input was read into Python."""


@final
@dataclass
class ValueReads:
    """Values that one forward pass read, by source line, in the order of the reads."""

    known: dict[SourceLine, list[Any]] = field(default_factory=lambda: defaultdict(list))
    input_dependent: set[SourceLine] = field(default_factory=set)


@final
class ReadRecorder(TorchFunctionMode):
    """Records every value that is read, and whether its tensor depends on inputs.

    A storage counts as dependent on inputs once a value computed from an input, or random numbers,
    have been written to it.
    """

    def __init__(self, inputs: Any) -> None:
        super().__init__()
        self.reads = ValueReads()
        self._kept: list[Tensor] = []  # kept alive so that no storage address is reused
        self._varying: set[int] = set()
        self._mark(inputs)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = _tensors((args, kwargs))
        varies = any(_storage(tensor) in self._varying for tensor in arguments)
        versions = [tensor._version for tensor in arguments]
        rng_state = torch.get_rng_state()
        result = func(*args, **kwargs)
        if func in _READS and arguments:
            line = _calling_line()
            self.reads.known[line].append(result)
            if varies:
                self.reads.input_dependent.add(line)
        if varies or not torch.equal(rng_state, torch.get_rng_state()):
            self._mark(result)
            self._mark([tensor for tensor, version in zip(arguments, versions, strict=True)
                        if tensor._version != version])
        return result

    def _mark(self, values: Any) -> None:
        for tensor in _tensors(values):
            self._kept.append(tensor)
            self._varying.add(_storage(tensor))


@final
class ReadReplayer(TorchFunctionMode):
    """Replaces every read of a value by the value that a recorded run read at the same line.

    Raises:
        InputDependentReadError: The value depends on an input.
    """

    def __init__(self, reads: ValueReads) -> None:
        super().__init__()
        self._reads = reads
        self._next: dict[SourceLine, int] = defaultdict(int)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _READS or not _tensors(args):
            return func(*args, **(kwargs or {}))
        line = _calling_line()
        values = self._reads.known.get(line, [])
        number, self._next[line] = self._next[line], self._next[line] + 1
        if line in self._reads.input_dependent or number >= len(values):
            raise InputDependentReadError(_READS[func])
        return values[number]


def record_reads(model: nn.Module, example_inputs: tuple[Any, ...]) -> ValueReads:
    """Run a forward pass without tracing and record the values that it reads."""
    with torch.no_grad(), ReadRecorder(example_inputs) as mode:
        model(*example_inputs)
        reads: ValueReads = mode.reads
    return reads


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _calling_line() -> SourceLine:
    """The line in the user's code that reads a value."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(LIBRARY_PATHS):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
