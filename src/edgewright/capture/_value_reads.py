"""Where a forward pass reads values of tensors into Python: an `if`, an `int()`, an `.item()`.

Tracing knows no values. Of a tensor that depends on no input there is one, though, which a run
beforehand finds out; a value that depends on an input is the line to be named.
"""

from __future__ import annotations

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
    Tensor.numpy: "hands numpy", Tensor.__array__: "hands numpy",
}
NOT_THE_USERS: Final = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")
Place = tuple[str, int]


class ValueOfInputError(ModelError):
    """A value that depends on an input was read; its message says where."""


@final
@dataclass
class ValueReads:
    """What one run of a forward pass read, at each place in the order of its reads."""

    known: dict[Place, list[Any]] = field(default_factory=lambda: defaultdict(list))
    of_inputs: set[Place] = field(default_factory=set)


@final
class RecordReads(TorchFunctionMode):
    """Notes every value that is read, and whether the tensor it is read from has to do with inputs.

    A storage that anything computed from an input was written to counts as an input from then on,
    and so does what random numbers were drawn into.
    """

    def __init__(self, inputs: Any) -> None:
        super().__init__()
        self.reads = ValueReads()
        self._kept: list[Tensor] = []  # so that no storage's address is used twice
        self._varying: set[int] = set()
        self._mark(inputs)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = _tensors((args, kwargs))
        varies = any(_storage(tensor) in self._varying for tensor in arguments)
        versions = [tensor._version for tensor in arguments]
        drawn = torch.get_rng_state()
        result = func(*args, **kwargs)
        if func in _READS and arguments:
            place = _place()
            self.reads.known[place].append(result)
            if varies:
                self.reads.of_inputs.add(place)
        if varies or not torch.equal(drawn, torch.get_rng_state()):
            self._mark(result)
            self._mark([tensor for tensor, version in zip(arguments, versions, strict=True)
                        if tensor._version != version])
        return result

    def _mark(self, values: Any) -> None:
        for tensor in _tensors(values):
            self._kept.append(tensor)
            self._varying.add(_storage(tensor))


@final
class ReplayReads(TorchFunctionMode):
    """Answers every read of a value by what a run before it read there.

    Raises:
        ValueOfInputError: The value depends on an input.
    """

    def __init__(self, reads: ValueReads) -> None:
        super().__init__()
        self._reads = reads
        self._next: dict[Place, int] = defaultdict(int)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _READS or not _tensors(args):
            return func(*args, **(kwargs or {}))
        place = _place()
        answers = self._reads.known.get(place, [])
        number, self._next[place] = self._next[place], self._next[place] + 1
        if place in self._reads.of_inputs or number >= len(answers):
            raise ValueOfInputError(_READS[func])
        return answers[number]


def record_reads(model: nn.Module, example_inputs: tuple[Any, ...]) -> ValueReads:
    """Run a forward pass and note what it reads; nothing is traced."""
    with torch.no_grad(), RecordReads(example_inputs) as mode:
        model(*example_inputs)
        reads: ValueReads = mode.reads
    return reads


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _place() -> Place:
    """The user's line that reads."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(NOT_THE_USERS):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
