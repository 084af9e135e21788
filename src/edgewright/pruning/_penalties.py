"""Penalties that drive whole channels to zero while a network is trained."""

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
    """``strength * sum over channels of sqrt(size) * ||w||``, w all that a channel is sliced from.

    Wen et al. 2016, eq. 1, over coupled groups as in Fang et al. 2023, and weighted by the square
    root of the group's size (Yuan & Lin 2006), so that channels of long and short filters pay
    alike. Instead of its subgradient, which leaves small values everywhere, each step ends with the
    proximal one, ``w <- w * max(0, 1 - lr * strength * sqrt(size) / ||w||)``: what vanishes is
    exactly zero. A weight between two channels is shrunk by both.
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
        """The proximal step."""
        if self._slices is None:
            return
        norms, least = self._slices.norms(), torch.finfo(torch.float32).tiny
        cost = step.lr * self._strength * self._slices.sizes.sqrt()
        self._slices.shrink((1 - cost / norms.clamp(min=least)).clamp(min=0))

    def is_settled(self, step: Step) -> bool:
        """Only the end of the run counts: before it, channels are still on their way."""
        return step.index + 1 == step.total


@final
class GrowingDecay(StepHook):
    """Weight decay on the channels that are to go, growing until they have vanished.

    Wang et al. 2021, GReg-1 (their algorithm 1): the L2 penalty of these channels rises from 0 to
    ``strength``, the others are free. It rises linearly over the first ``growth`` of the run and
    then stays, instead of by a constant every few steps up to a ceiling.
    """

    def __init__(self, groups: ChannelGroups, channels: Collection[int], strength: float,
                 growth: float) -> None:
        self._groups, self._chosen = groups, frozenset(channels)
        self._strength, self._growth = strength, growth
        self._slices: CoupledSlices | None = None
        self._flags = torch.zeros(0)

    @property
    def name(self) -> str:
        """Identifies the penalty, and the channels it is on, in a checkpoint."""
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
        """Only the end of the run counts: before it, channels are still on their way."""
        return step.index + 1 == step.total
