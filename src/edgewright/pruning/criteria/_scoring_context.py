"""The input and the interface of pruning criteria."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import Node

from edgewright.channels import ChannelGroups, Incidence, TensorDim
from edgewright.errors import UsageError
from edgewright.goals import Goal
from edgewright.graph import stored_tensors
from edgewright.program import Program
from edgewright.task import Batch, Split
from edgewright.training import GoalLoss, split_exits

T = TypeVar("T")
Vector: TypeAlias = NDArray[np.float64]


@final
@dataclass(frozen=True)
class ScoringContext:
    """A program, its channels, and the samples that criteria score them on.

    Attributes:
        program: In evaluation mode.
        groups: The program's channels.
        criterion: Name of the criterion, for messages.
        split: Seeded sample of the training split; None if there is no task.
        seed: Seed for criteria that use random numbers.
        task_goal: Goal of the task, whose loss and predictions criteria use; None without a task.
    """

    program: Program
    groups: ChannelGroups
    criterion: str
    split: Split | None
    seed: int
    task_goal: Goal | None = None

    @property
    def samples(self) -> Split:
        """The samples.

        Raises:
            UsageError: There are no samples; the message names the criterion.
        """
        return self._of_task(self.split)

    @property
    def goal(self) -> Goal:
        """The task's goal.

        Raises:
            UsageError: There is no task; the message names the criterion.
        """
        return self._of_task(self.task_goal)

    def _of_task(self, value: T | None) -> T:
        """What a task gives; raises if there is none."""
        if value is None:
            raise UsageError(f"criterion={self.criterion!r} needs data; give a task, or use "
                             "'magnitude'")
        return value

    def summed_loss(self, result: Any, batch: Batch) -> Tensor:
        """The goal's loss, averaged over the exits and summed over the samples."""
        outputs = split_exits(result, self.program.exits)
        return batch.size * GoalLoss(self.goal).loss(outputs, batch)

    @cached_property
    def channel_count(self) -> int:
        """Number of channels."""
        return sum(len(group.channels) for group in self.groups.groups)

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """The range of each group's channels in a vector of scores."""
        ends = np.cumsum([len(group.channels) for group in self.groups.groups]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Floating-point parameters by name, without buffers; a shared one has one name."""
        found = {name: tensor
                 for name, tensor in stored_tensors(self.program.graph_module).items()
                 if isinstance(tensor, nn.Parameter) and tensor.is_floating_point()}
        name_of = {id(tensor): name for name, tensor in found.items()}
        return {name: tensor for name, tensor in found.items() if name_of[id(tensor)] == name}

    def weight(self, name: str) -> Tensor:
        """A parameter's values, as float32."""
        return self.parameters[name].detach().float()

    @cached_property
    def incidences(self) -> dict[TensorDim, Incidence]:
        """The indices of each channel in the parameters, by tensor and dimension."""
        keys = dict.fromkeys(key for group in self.groups.groups for key in group.slices)
        return {(name, dim): self.groups.incidence(self.groups.tensor(name)[dim])
                for name, dim in keys if name in self.parameters}

    def incidence_along(self, node: Node, dim: int) -> Incidence:
        """The indices of each channel along one dimension of a node's value."""
        return self.groups.incidence(self.groups.labels_of(node)[dim])


Criterion: TypeAlias = Callable[[ScoringContext], Vector]
"""Scores all channels, in the order of the groups; higher scores mean more important channels.

Scores are finite and not negative. The same context always gives the same scores and is not
changed.
"""
