"""Which parameters an optimizer moves, and how far each decays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.optim import Optimizer

from edgewright.errors import UsageError
from edgewright.training._config import Training


@runtime_checkable
class StepsRelatively(Protocol):
    """A module whose own parameters AdamW and its like move in steps relative to their size."""

    def relative_steps(self) -> Mapping[str, float]:
        """By the parameter's name, what the learning rate is multiplied with; positive."""
        ...


def make_optimizer(module: nn.Module, config: Training) -> Optimizer:
    """The config's optimizer over all that requires a gradient; vectors and scalars do not decay.

    Nor does what a module in ``module`` names (`StepsRelatively`). A scale-invariant optimizer
    moves a parameter by about the learning rate, however small its gradient and however small it
    is; but what is named by the learning rate times its size, rounded to a power of two so that few
    groups do (relative steps: Shazeer & Stern 2018, "Adafactor", section 8). Each group says by
    ``size`` what its learning rate is to be multiplied with.

    Raises:
        UsageError: Nothing requires a gradient.
    """
    check_trainable(module)
    relative = _relative_steps(module)
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and id(parameter) not in relative
            size = relative.get(id(parameter), 1.0) if config.optimizer.scale_invariant else 1.0
            group = groups.setdefault((decays, size), {
                "params": [], "size": size,
                "weight_decay": config.weight_decay if decays else 0.0})
            group["params"].append(parameter)
    return config.optimizer.build(groups.values(), config.lr)


def check_trainable(module: nn.Module) -> None:
    """See that there is something to train.

    Raises:
        UsageError: Nothing requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UsageError("the model has no parameter that requires a gradient; "
                         "there is nothing to train: call requires_grad_(True) on what may change "
                         "in the model, and capture it then")


def _relative_steps(module: nn.Module) -> dict[int, float]:
    """Of the parameters that are named, by their identity."""
    return {id(part.get_parameter(name)): 2.0 ** round(math.log2(size))
            for part in module.modules() if isinstance(part, StepsRelatively)
            for name, size in part.relative_steps().items()}
