"""Which optimizer trains, and how it is set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol, Self, final, runtime_checkable

import torch
from pydantic import Field, model_validator

from edgewright.core import Settings
from edgewright.errors import UsageError


@runtime_checkable
class OptimizerConfig(Protocol):
    """An optimizer's settings; implement it to train with an optimizer of your own.

    Attributes:
        name: Identifies the optimizer *and its settings* in a checkpoint and a saved recipe.
        scale_invariant: Whether the length of a step depends on the learning rate and not on the
            length of the gradient, as with Adam or Lion. Quantizer scales then move in steps
            relative to their size; see `StepsRelatively`.

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
        """Whether the length of a step does not depend on the gradient's."""
        ...

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """The optimizer over parameter groups.

        Args:
            groups: Each with its ``params``, its ``weight_decay``, and ``size``, which the
                optimizer has to keep: the learning rate of the group is multiplied with it.
            lr: Peak learning rate; the schedule sets each group's ``lr`` before every step.
        """
        ...


@final
class SGD(Settings):
    """Stochastic gradient descent with momentum; what convolutional networks are trained with.

    Attributes:
        momentum: Share of the previous step that is kept; 0 keeps none.
        nesterov: Look ahead along the momentum (Nesterov 1983; Sutskever et al. 2013).

    Raises:
        UsageError: A value out of its range, or Nesterov's momentum without momentum.

    Example:
        >>> SGD(momentum=0.8).nesterov
        False
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise UsageError("SGD: nesterov needs a momentum above 0; raise it, or leave nesterov "
                             "out")
        return self

    @property
    def name(self) -> str:
        """``sgd``."""
        return "sgd"

    @property
    def scale_invariant(self) -> bool:
        """A step is as long as the gradient makes it."""
        return False

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """The optimizer over parameter groups."""
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov)


@final
class AdamW(Settings):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); for transformers, usually.

    Its learning rates are smaller than those of SGD, 0.001 rather than 0.05.

    Attributes:
        betas: Decay of the running means of the gradient and of its square.

    Raises:
        UsageError: A value out of its range.

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
        """A step is about as long as the learning rate."""
        return True

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """The optimizer over parameter groups."""
        return torch.optim.AdamW(groups, lr=lr, betas=self.betas)


OPTIMIZERS: Final[dict[str, type[Settings]]] = {"sgd": SGD, "adamw": AdamW}
