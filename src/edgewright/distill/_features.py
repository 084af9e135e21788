"""A student that also returns its features in training mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from edgewright.distill._pairs import FeaturePair
from edgewright.distill._tap_features import tap_features
from edgewright.program import Program
from edgewright.training import split_exits


@final
class FeatureStudent(nn.Module):
    """A program that also returns features in training mode; in evaluation it is the program.

    In training mode it returns a tuple: the features, then what each exit of the program returns.

    The objective takes the features from the leading outputs. If features are compared channel by
    channel and the teacher's have another width, a 1 x 1 convolution (a linear layer for tokens and
    vectors) projects the student's features to that width. The projections are trained with the
    network and discarded afterwards.

    Args:
        program: The student; it is not modified.
        pairs: Pairs of student and teacher features; see `find_pairs`.
        projected: Whether to project the student's features to the teacher's width.
        seed: Seed of the projections' initial weights.

    Example:
        >>> from edgewright.distill import find_pairs
        >>> def mlp(width):
        ...     model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
        ...     return Program.capture(model, torch.zeros(1, 4))
        >>> pairs = find_pairs(mlp(4), mlp(16))
        >>> student = FeatureStudent(mlp(4), pairs, projected=True).train()
        >>> [tuple(output.shape) for output in student(torch.zeros(2, 4))]
        [(2, 16), (2, 3)]
        >>> student.eval()(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
        >>> sorted(student.network_state())
        ['0.bias', '0.weight', '2.bias', '2.weight']
    """

    def __init__(self, program: Program, pairs: Sequence[FeaturePair], *, projected: bool,
                 seed: int = 0) -> None:
        super().__init__()
        self.body = tap_features(program, [pair.student for pair in pairs])
        self._exits = program.exits
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.projections = nn.ModuleList(
                _projection(pair) if projected else nn.Identity() for pair in pairs)
        self.eval()

    def forward(self, *inputs: Any) -> Any:
        """Projected features, then each exit's outputs; in evaluation what the program returns."""
        count = len(self.projections)
        parts = split_exits(self.body(*inputs), self._exits, count)
        if not self.training:
            return parts[count:] if self._exits else parts[-1]
        features = (project(feature) for project, feature
                    in zip(self.projections, parts[:count], strict=True))
        return (*features, *parts[count:])

    def network_state(self) -> dict[str, Tensor]:
        """The program's own current tensors, for `Program.with_state`."""
        return self.body.state_dict()


def _projection(pair: FeaturePair) -> nn.Module:
    axis = 1 if len(pair.student_shape) == 4 else -1
    mine, theirs = pair.student_shape[axis], pair.teacher_shape[axis]
    if mine == theirs:
        return nn.Identity()
    return nn.Conv2d(mine, theirs, 1) if axis == 1 else nn.Linear(mine, theirs)
