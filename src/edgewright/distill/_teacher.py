"""Teachers: the base class, and modules and programs as teachers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.capture import CapturedModule, count_exits
from edgewright.distill._digest import compute_digest
from edgewright.distill._tap_features import is_feature, tap_features
from edgewright.errors import ModelError, UsageError
from edgewright.program import Program
from edgewright.task import Batch
from edgewright.training import split_exits


@dataclass(frozen=True, eq=False)
class TeacherOutput:
    """A teacher's output for a batch, without gradients.

    Attributes:
        outputs: What the teacher returns: a tensor (N, ...), such as logits (N, classes), or a dict
            or tuple of tensors. The goal says which are predictions.
        features: Intermediate tensors of the teacher, (N, ...) each, in the order of the taps.

    Example:
        >>> TeacherOutput(torch.zeros(2, 10)).features
        ()
    """

    outputs: Any
    features: tuple[Tensor, ...] = ()


class Teacher(ABC):
    """Base class of teachers, which return the outputs to learn from for a batch.

    A teacher sees the batch's inputs, and needs no targets.

    Attributes:
        name: Identifies the teacher, including its weights, in a checkpoint and in a cache.
        views: Number of views that it has outputs for, numbered from 0; None for any view. An
            objective that uses it has the same ``views``; see `edgewright.training.StoredTargets`.
        requires_sample_ids: Whether it looks up samples by row, which rules out mixed samples.
    """

    name: str
    views: int | None = None
    requires_sample_ids: bool = False

    def to(self, device: torch.device) -> None:
        """Move the teacher's tensors to a device; by default there are none."""
        del device

    @abstractmethod
    def teach(self, batch: Batch) -> TeacherOutput:
        """The teacher's output for these inputs, on the device it was moved to."""


@final
class ModuleTeacher(Teacher):
    """A module or program as teacher, in evaluation mode without gradients; uses its final exit.

    Args:
        model: Takes the student's inputs; returns a tensor, or a dict or tuple of tensors; with
            early exits a tuple of what each exit returns, the final one last. A module is set to
            evaluation mode in place; a program is not modified.
        taps: Names of a program's nodes whose tensors are returned as features.
        exits: Number of a module's early exits; None uses the number of a captured
            network, and 0 for any other module.

    Raises:
        UsageError: Taps are given for a module, or are unknown to the program.

    Example:
        >>> program = Program.capture(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),
        ...                           torch.zeros(2, 4))
        >>> teacher = ModuleTeacher(program, taps=("relu",))
        >>> output = teacher.teach(Batch((torch.ones(5, 4),), None, torch.arange(5)))
        >>> output.outputs.shape, [feature.shape for feature in output.features]
        (torch.Size([5, 3]), [torch.Size([5, 8])])
    """

    def __init__(self, model: nn.Module | Program, taps: Sequence[str] = (), *,
                 exits: int | None = None) -> None:
        if taps and not isinstance(model, Program):
            raise UsageError(f"features {', '.join(taps)} were requested from a "
                             f"{type(model).__name__}; only a program has named nodes: "
                             "Program.capture(module, inputs)")
        self._module = _tap_program(model, taps) if isinstance(model, Program) else model.eval()
        self._taps = len(taps)
        self._exits = count_exits(self._module) if exits is None else exits
        self.name = f"{type(self._module).__name__} {_digest(self._module)}"

    def to(self, device: torch.device) -> None:
        """Move the module, in place."""
        self._module.to(device)

    def teach(self, batch: Batch) -> TeacherOutput:
        """What the final exit returns, and the tapped features.

        Raises:
            ModelError: The module returns no tensor, or not one output per exit.
        """
        with torch.no_grad():
            result = self._module(*batch.inputs)
        if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(result)):
            raise ModelError(f"the teacher {self.name} returned a {type(result).__name__}; "
                             "expected a tensor, or a dict or tuple of tensors")
        try:
            *others, outputs = split_exits(result, self._exits, self._taps)
        except ModelError as error:
            raise ModelError(f"the teacher {self.name} does not have {self._exits} early exits: "
                             f"{error}; give their number: ModuleTeacher(model, exits=...)"
                             ) from error
        return TeacherOutput(outputs, tuple(others[:self._taps]))


def _tap_program(program: Program, taps: Sequence[str]) -> CapturedModule:
    nodes = {node.name for node in program.calls() if is_feature(node)}
    if missing := [name for name in taps if name not in nodes]:
        raise UsageError(f"the teacher has no node {', '.join(missing)} that computes a feature; "
                         f"it has {', '.join(sorted(nodes))}")
    return tap_features(program, taps)


def _digest(module: nn.Module) -> str:
    """A digest of a module's structure and of every tensor in its state."""
    structure = module.code if isinstance(module, CapturedModule) else repr(module)
    state = module.state_dict()
    return compute_digest(structure, *state, *(value for value in state.values()
                                               if isinstance(value, Tensor)))
