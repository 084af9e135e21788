"""The optimiser that a config asks for."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from edgewright.errors import UsageError
from edgewright.training._config import Training


def optimizer_for(module: nn.Module, config: Training) -> Optimizer:
    """SGD or AdamW over all that requires a gradient; vectors and scalars do not decay.

    Raises:
        UsageError: Nothing requires a gradient.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        raise UsageError(f"{type(module).__name__} has no parameter that requires a gradient; "
                         "there is nothing to train")
    groups = [{"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
              {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.lr)
    return SGD(groups, lr=config.lr, momentum=config.momentum)
