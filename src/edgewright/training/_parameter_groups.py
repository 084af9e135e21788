"""Parameter groups of the optimizer: weight decay and relative step sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.optim import Optimizer

from edgewright.errors import UsageError
from edgewright.training._config import Training


@runtime_checkable
class HasRelativeSteps(Protocol):
    """A module with parameters whose steps under AdamW and similar scale with their size."""

    def relative_steps(self) -> Mapping[str, float]:
        """A positive factor on the learning rate, by the parameter's name."""
        ...


def make_optimizer(module: nn.Module, config: Training) -> Optimizer:
    """Create the config's optimizer over all parameters that require a gradient.

    Vectors, scalars, and the parameters that a submodule names (`HasRelativeSteps`) have no weight
    decay. A scale-invariant optimizer moves a parameter by about the learning rate, however small
    the parameter is. For the named parameters the learning rate is therefore multiplied by their
    size, rounded to a power of two to keep the number of groups small (relative steps: Shazeer &
    Stern 2018, "Adafactor", section 8). A group's ``size`` is the factor on its learning rate.

    Raises:
        UsageError: No parameter requires a gradient.
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
    """Check that there is something to train.

    Raises:
        UsageError: No parameter requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UsageError("the model has no parameter that requires a gradient, so there is "
                         "nothing to train: call requires_grad_(True) on the parameters to train "
                         "before capturing the model")


def _relative_steps(module: nn.Module) -> dict[int, float]:
    """The factors of the named parameters, by ``id``."""
    return {id(part.get_parameter(name)): 2.0 ** round(math.log2(size))
            for part in module.modules() if isinstance(part, HasRelativeSteps)
            for name, size in part.relative_steps().items()}
