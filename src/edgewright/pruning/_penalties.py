"""Penalties that drive whole channels to zero during training."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

import torch
from torch import Tensor, nn

from edgewright.channels import ChannelGroups
from edgewright.pruning._coupled_slices import CoupledSlices
from edgewright.training import Step, StepHook


@final
class GroupLasso(StepHook):
    """The penalty ``strength * sum over channels of sqrt(size) * ||w||``.

    Here w are all weights in a channel's slices: Wen et al. 2016, eq. 1, over coupled groups as in
    Fang et al. 2023, weighted by the square root of the number of weights (Yuan & Lin 2006), so
    that channels with large and small filters are penalized equally. Subgradient steps would leave
    small values everywhere; instead each training step is followed by a proximal step, ``w <- w *
    max(0, 1 - lr * strength * sqrt(size) / ||w||)``, which produces exact zeros. A weight that
    belongs to an output and an input channel is shrunk by both.
    """

    def __init__(self, groups: ChannelGroups, strength: float) -> None:
        self._groups, self._strength = groups, strength
        self._slices: CoupledSlices | None = None

    @property
    def name(self) -> str:
        """Identifies the penalty in a checkpoint."""
        return f"GroupLasso({self._strength})"

    def start(self, module: nn.Module) -> None:
        """Find every channel's slices in the module."""
        self._slices = CoupledSlices(self._groups, module)

    def after_step(self, step: Step) -> None:
        """Apply the proximal step."""
        if self._slices is None:
            return
        norms, tiny = self._slices.norms(), torch.finfo(torch.float32).tiny
        threshold = step.lr * self._strength * self._slices.sizes.sqrt()
        self._slices.shrink((1 - threshold / norms.clamp(min=tiny)).clamp(min=0))

    def is_settled(self, step: Step) -> bool:
        """Only after the last step, because channels shrink until then."""
        return step.index + 1 == step.total


@final
class GrowingDecay(StepHook):
    """Weight decay on chosen channels that grows until they are close to zero.

    Wang et al. 2021, GReg-1 (their algorithm 1): the L2 penalty of the chosen channels grows from 0
    to ``strength``; the others have no penalty. Differing from the paper, which adds a constant
    every few steps up to a limit, it grows linearly over the first ``growth`` of the run and then
    stays constant.
    """

    def __init__(self, groups: ChannelGroups, channels: Collection[int], strength: float,
                 growth: float) -> None:
        self._groups, self._chosen = groups, frozenset(channels)
        self._strength, self._growth = strength, growth
        self._slices: CoupledSlices | None = None
        self._flags = torch.zeros(0)

    @property
    def name(self) -> str:
        """Identifies the penalty and its channels in a checkpoint."""
        return f"GrowingDecay({self._strength}, {self._growth}, {sorted(self._chosen)})"

    def start(self, module: nn.Module) -> None:
        """Find the slices of the chosen channels in the module."""
        self._slices = CoupledSlices(self._groups, module)
        self._flags = torch.tensor([float(c in self._chosen) for c in self._slices.channels],
                                   device=self._slices.sizes.device)

    def before_step(self, step: Step) -> None:
        """Add the penalty's gradient."""
        if self._slices is not None:
            self._slices.add_decay(self.strength_at(step) * self._flags)

    def strength_at(self, step: Step) -> Tensor:
        """The penalty's strength at a step."""
        return torch.tensor(self._strength * min(1.0, step.progress / self._growth))

    def is_settled(self, step: Step) -> bool:
        """Only after the last step, because channels shrink until then."""
        return step.index + 1 == step.total
