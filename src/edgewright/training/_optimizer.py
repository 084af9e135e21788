"""Optimizers and their settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol, Self, final, runtime_checkable

import torch
from pydantic import Field, model_validator

from edgewright.core import Choice, Settings
from edgewright.errors import UsageError


@runtime_checkable
class OptimizerConfig(Protocol):
    """An optimizer's settings; implement this protocol to train with your own optimizer.

    Attributes:
        name: Identifies the optimizer *and its settings* in a checkpoint and a saved recipe.
        scale_invariant: Whether the step size depends on the learning rate but not on the norm of
            the gradient, as for Adam or Lion. Quantizer scales then get steps relative to their
            size; see `HasRelativeSteps`.

    Example:
        >>> class Lion:
        ...     name, scale_invariant = "lion", True
        ...     def build(self, groups, lr):
        ...         return torch.optim.Adagrad(groups, lr=lr)  # yours in its place
        >>> isinstance(Lion(), OptimizerConfig)
        True
    """

    @property
    def name(self) -> str:
        """Identifies the optimizer and its settings."""
        ...

    @property
    def scale_invariant(self) -> bool:
        """Whether the step size is independent of the gradient's norm."""
        ...

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """Create the optimizer over parameter groups.

        Args:
            groups: Each with ``params``, ``weight_decay``, and ``size``, a factor on the group's
                learning rate that the optimizer must keep.
            lr: Peak learning rate; the schedule sets each group's ``lr`` before every step.
        """
        ...


@final
class SGD(Settings):
    """Stochastic gradient descent with momentum, the usual choice for convolutional networks.

    Attributes:
        momentum: Momentum factor; 0 disables it.
        nesterov: Use Nesterov momentum (Nesterov 1983; Sutskever et al. 2013).

    Raises:
        UsageError: A value out of range, or Nesterov momentum without momentum.

    Example:
        >>> SGD(momentum=0.8).nesterov
        False
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise UsageError("SGD: nesterov needs a momentum above 0; raise it, or set "
                             "nesterov=False")
        return self

    @property
    def name(self) -> str:
        """``sgd``."""
        return "sgd"

    @property
    def scale_invariant(self) -> bool:
        """False: the step size is proportional to the gradient."""
        return False

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """Create the optimizer over parameter groups."""
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov)


@final
class AdamW(Settings):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), the choice for transformers.

    It needs smaller learning rates than SGD, 0.001 rather than 0.05.

    Attributes:
        betas: Decay rates of the running means of the gradient and of its square.

    Raises:
        UsageError: A value out of range.

    Example:
        >>> AdamW(betas=(0.9, 0.95)).betas
        (0.9, 0.95)
    """

    betas: tuple[float, float] = (0.9, 0.999)

    @model_validator(mode="after")
    def _betas_are_decays(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"AdamW: betas: each should be at least 0 and below 1, got "
                             f"{self.betas}")
        return self

    @property
    def name(self) -> str:
        """``adamw``."""
        return "adamw"

    @property
    def scale_invariant(self) -> bool:
        """True: a step is about as large as the learning rate."""
        return True

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """Create the optimizer over parameter groups."""
        return torch.optim.AdamW(groups, lr=lr, betas=self.betas)


OPTIMIZERS: Final = Choice(sgd=SGD, adamw=AdamW, protocol=OptimizerConfig)
