"""A teacher that is compiled once it has been used for long enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.distill._tap_features import tap_features
from edgewright.distill._teacher import ModuleTeacher, Teacher, TeacherOutput
from edgewright.program import Program, fold_batch_norm
from edgewright.task import Batch
from edgewright.training import has_bfloat16_instructions, set_memory_format

_SECONDS_PER_TENSOR: Final = 0.1  # that compilation takes; ResNet-56: 12 s for 114 tensors
_TOLERANCE: Final = 0.05  # relative; bfloat16 differs by about a hundredth


@final
class CompiledTeacher(Teacher):
    """A program as teacher, on the CPU compiled for inference when that pays.

    Batch norms are folded, the weights are constants of the compiled code, and the computation is
    in bfloat16 where the CPU has instructions for it: ResNet-56 then teaches 45,000 images in 10 s
    instead of 90 s on two cores. Compilation takes seconds, so the program first runs as it is, for
    as long as compiling it takes: that is at most twice the time of the better choice. It goes on
    running as it is if its compiled outputs differ, or if compilation fails. Batches of other sizes
    than the one it was compiled for are not compiled.

    One object can teach in several trainings, which then share the compiled code.

    Args:
        program: The teacher; it is not modified.
        seconds: How long it teaches before it is compiled; None for about as long as that takes.
        taps: Names of the program's nodes whose tensors are returned as features.

    Attributes:
        program: The teacher.

    Raises:
        UsageError: A tap is unknown to the program.

    Example:
        >>> program = Program.capture(torch.nn.Linear(4, 3), torch.zeros(2, 4))
        >>> teacher = CompiledTeacher(program)
        >>> teacher.teach(Batch((torch.ones(5, 4),), None, torch.arange(5))).outputs.shape
        torch.Size([5, 3])
    """

    def __init__(self, program: Program, seconds: float | None = None,
                 taps: Sequence[str] = ()) -> None:
        self.program = program
        self._seconds, self._taps = seconds, tuple(taps)
        self._plain = ModuleTeacher(program, self._taps)
        self._tapped: dict[tuple[str, ...], CompiledTeacher] = {}
        self._left = (_SECONDS_PER_TENSOR * sum(1 for _ in program.module().parameters())
                      if seconds is None else seconds)
        self._shapes: list[torch.Size] | None = None
        self._run: Callable[..., TeacherOutput] | None = None
        self._device = torch.device("cpu")
        self.name = self._plain.name

    def __reduce__(self) -> tuple[Any, ...]:  # in another process it runs as it is
        return copy, (self._plain,)

    @property
    def is_compiled(self) -> bool:
        """Whether it has been compiled."""
        return self._run is not None

    def tap(self, names: Sequence[str]) -> CompiledTeacher:
        """The teacher that also returns features; the same one for the same names.

        Args:
            names: Names of the program's nodes.

        Raises:
            UsageError: A name is unknown to the program.
        """
        taps = tuple(names)
        if taps not in self._tapped:
            self._tapped[taps] = CompiledTeacher(self.program, self._seconds, taps)
        return self._tapped[taps]

    def to(self, device: torch.device) -> None:
        """Move the teacher's tensors."""
        self._device = device
        self._plain.to(device)

    def teach(self, batch: Batch) -> TeacherOutput:
        """What the final exit returns, in float32, and the tapped features.

        Raises:
            ModelError: The program returns no tensor, or not one output per exit.
        """
        is_usual = [tensor.shape for tensor in batch.inputs] == self._shapes
        if self._run is not None and is_usual and self._device.type == "cpu":
            return self._run(*batch.inputs)
        since = time.perf_counter()
        output = self._plain.teach(batch)
        self._left -= time.perf_counter() - since
        if self._left <= 0 and self._shapes is None and self._device.type == "cpu":
            self._compile(batch, output)
        return output

    def _compile(self, batch: Batch, expected: TeacherOutput) -> None:
        """Compile for batches of this shape, if the outputs stay the same."""
        self._shapes = [tensor.shape for tensor in batch.inputs]
        try:
            run = _compile_for_inference(self.program, self._taps)
            found = run(*batch.inputs)
        except RuntimeError:  # of dynamo, of the compiler, of memory
            return
        pairs = zip(*(pytree.tree_leaves((one.outputs, one.features))
                      for one in (found, expected)), strict=True)
        if all(_is_close(one, other) for one, other in pairs):
            self._run = run


def _compile_for_inference(program: Program,
                           taps: tuple[str, ...]) -> Callable[..., TeacherOutput]:
    """The final exit of a program and its taps, in evaluation mode, as float32."""
    folded = fold_batch_norm(program)
    named = {node.name for node in folded.calls()}
    module = tap_features(folded if named.issuperset(taps) else program, taps)
    module.eval().requires_grad_(requires_grad=False)
    dtype = torch.bfloat16 if has_bfloat16_instructions() else torch.float32
    module.to(dtype)
    set_memory_format(module, torch.channels_last)
    returns_parts = bool(program.exits or taps)
    compiled = torch.compile(module, dynamic=False, options={"freezing": True})

    def run(*inputs: Tensor) -> TeacherOutput:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            outputs = compiled(*(_convert(tensor, dtype) for tensor in inputs))
        parts = pytree.tree_map_only(Tensor, lambda tensor: _convert(tensor, torch.float32),
                                     outputs if returns_parts else (outputs,))
        return TeacherOutput(parts[-1], tuple(parts[:len(taps)]))

    return run


def _convert(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A floating-point tensor in another precision; any other tensor unchanged."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _is_close(found: Tensor, expected: Tensor) -> bool:
    if not expected.is_floating_point():
        return bool((found == expected).all())
    apart = (found.float() - expected.float()).square().mean().sqrt()
    return bool(apart <= _TOLERANCE * expected.float().std(correction=0))
