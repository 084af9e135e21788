"""What a criterion is given to judge, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import Node

from edgewright.channels import ChannelGroups, Incidence, TensorDim
from edgewright.errors import UsageError
from edgewright.graph import stored_tensors
from edgewright.program import Program
from edgewright.task import Split

Vector: TypeAlias = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Subject:
    """A program, its channels, and the samples to judge them by.

    Attributes:
        program: In evaluation form.
        groups: The program's channels.
        criterion: Name of the criterion that is asked, for messages.
        split: The seeded sample of the training split; None where there is no task.
        seed: Of whatever is random_scores.
    """

    program: Program
    groups: ChannelGroups
    criterion: str
    split: Split | None
    seed: int

    @property
    def samples(self) -> Split:
        """The samples.

        Raises:
            UsageError: There are none; the criterion is named.
        """
        if self.split is None:
            raise UsageError(f"criterion={self.criterion!r} needs data; give a task, or use "
                             "'magnitude'")
        return self.split

    @cached_property
    def count(self) -> int:
        """How many channels there are."""
        return sum(len(group.channels) for group in self.groups.groups)

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """Where each group's channels lie in a vector of scores."""
        ends = np.cumsum([len(group.channels) for group in self.groups.groups]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by name, one that is shared under one name; statistics are none."""
        found = {name: tensor
                 for name, tensor in stored_tensors(self.program.graph_module).items()
                 if isinstance(tensor, nn.Parameter) and tensor.is_floating_point()}
        name_of = {id(tensor): name for name, tensor in found.items()}
        return {name: tensor for name, tensor in found.items() if name_of[id(tensor)] == name}

    def weight(self, name: str) -> Tensor:
        """A parameter's values, in single precision."""
        return self.parameters[name].detach().float()

    @cached_property
    def places(self) -> dict[TensorDim, Incidence]:
        """Where channels lie in the parameters."""
        places = dict.fromkeys(place for group in self.groups.groups for place in group.slices)
        return {(name, dim): self.groups.incidence(self.groups.tensor(name)[dim])
                for name, dim in places if name in self.parameters}

    def along(self, node: Node, dim: int) -> Incidence:
        """Where channels lie along one dimension of what a node computes."""
        return self.groups.incidence(self.groups.labels_of(node)[dim])


Criterion: TypeAlias = Callable[[Subject], Vector]
"""Scores of all channels, in the order of the groups: the higher, the more a channel matters.

Finite, not negative, and the same for the same subject, of which nothing is changed.
"""
