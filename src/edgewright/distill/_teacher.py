"""What knows more than the student: anything that says of a batch which class it takes it for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from edgewright.capture import CapturedModule, count_exits
from edgewright.distill._digest import compute_digest
from edgewright.distill._tap_features import is_feature, tap_features
from edgewright.errors import ModelError, UsageError
from edgewright.program import Program
from edgewright.task import Batch
from edgewright.training import as_outputs


@dataclass(frozen=True, eq=False)
class TeacherOutput:
    """A teacher's output for a batch; nothing of it takes a gradient.

    Attributes:
        logits: (N, classes), or (N, ..., classes) of a sequence; floating point.
        features: Tensors from inside the teacher, (N, ...) each, in the order they were asked for.

    Example:
        >>> TeacherOutput(torch.zeros(2, 10)).features
        ()
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()


class Teacher(ABC):
    """Says of every batch what its classes are, softly.

    Attributes:
        name: Identifies the teacher, its weights included, in a checkpoint and in a cache.
        views: How many views of the samples it knows, from number 0 on; None for any. An objective
            that uses it has the same ``views``; see `edgewright.training.StoredTargets`.
        requires_sample_ids: It looks samples up by their rows, so that it knows nothing of their
            mixtures.
    """

    name: str
    views: int | None = None
    requires_sample_ids: bool = False

    def to(self, device: torch.device) -> None:
        """Move whatever the teacher holds to where the training is; by default nothing."""
        del device

    @abstractmethod
    def teach(self, batch: Batch) -> TeacherOutput:
        """What the teacher says of these very inputs, on the device it was moved to."""


@final
class ModuleTeacher(Teacher):
    """A module or a program, in evaluation mode and without gradients; its last output teaches.

    Args:
        model: Takes the student's inputs; returns logits, with early exits a tuple of them, the
            final one last. A module is put into evaluation mode, in place; a program is left as it
            is.
        taps: Nodes of a program whose tensors are handed out as features.
        exits: How many of a module's outputs are early exits; None, and a captured network knows
            its own, any other module has none.

    Raises:
        UsageError: Taps of a module that is no program, or that the program does not have.

    Example:
        >>> program = Program.capture(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),
        ...                           torch.zeros(2, 4))
        >>> teacher = ModuleTeacher(program, taps=("relu",))
        >>> output = teacher.teach(Batch((torch.ones(5, 4),), torch.zeros(5), torch.arange(5)))
        >>> output.logits.shape, [feature.shape for feature in output.features]
        (torch.Size([5, 3]), [torch.Size([5, 8])])
    """

    def __init__(self, model: nn.Module | Program, taps: Sequence[str] = (), *,
                 exits: int | None = None) -> None:
        if taps and not isinstance(model, Program):
            raise UsageError(f"features {', '.join(taps)} were asked of a {type(model).__name__}; "
                             "only a program has named nodes: Program.capture(module, inputs)")
        self._module = _tap_program(model, taps) if isinstance(model, Program) else model.eval()
        self._taps = len(taps)
        self._exits = count_exits(self._module) if exits is None else exits
        self.name = f"{type(self._module).__name__} {_digest(self._module)}"

    def to(self, device: torch.device) -> None:
        """Move the module, in place."""
        self._module.to(device)

    def teach(self, batch: Batch) -> TeacherOutput:
        """The last output, and the features that were asked for.

        Raises:
            ModelError: The module does not return tensors, or not one per exit.
        """
        with torch.no_grad():
            outputs = as_outputs(self._module(*batch.inputs))
        if len(outputs) != self._taps + self._exits + 1:
            raise ModelError(
                f"the teacher {self.name} returns {len(outputs) - self._taps} outputs; expected "
                f"{self._exits + 1}, one per exit and the final one last. Which of several heads "
                "teaches is not guessed: wrap the teacher so that it returns that one alone, or "
                "say ModuleTeacher(model, exits=...)")
        return TeacherOutput(outputs[-1], outputs[:self._taps])


def _tap_program(program: Program, taps: Sequence[str]) -> CapturedModule:
    nodes = {node.name for node in program.calls() if is_feature(node)}
    if missing := [name for name in taps if name not in nodes]:
        raise UsageError(f"the teacher has no node {', '.join(missing)} that computes a feature; "
                         f"it has {', '.join(sorted(nodes))}")
    return tap_features(program, taps)


def _digest(module: nn.Module) -> str:
    """Of a module's structure, and of every tensor in its state."""
    structure = module.code if isinstance(module, CapturedModule) else repr(module)
    state = module.state_dict()
    return compute_digest(structure, *state, *(value for value in state.values()
                                               if isinstance(value, Tensor)))
