"""Keep pruned weights at zero during training."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.fx import GraphModule

from edgewright.graph import sparse_tensors
from edgewright.training._step_hook import Step, StepHook


@final
class KeepZeros(StepHook):
    """Keeps the zeros of every tensor that a captured network in the module marks as sparse.

    The gradient is masked too, so that it neither affects the clipped norm nor builds momentum.

    Args:
        module: A captured network, or a module that contains some; it may have no sparse tensors.

    Example:
        >>> import torch
        >>> KeepZeros(torch.nn.Linear(2, 2)).name
        'KeepZeros()'
    """

    def __init__(self, module: nn.Module) -> None:
        self._names = tuple(
            f"{prefix}.{name}".lstrip(".") for prefix, part in module.named_modules()
            if isinstance(part, GraphModule) for name in sparse_tensors(part))
        self._held: list[tuple[nn.Parameter, Tensor]] = []

    @property
    def name(self) -> str:
        """Identifies the tensors in a checkpoint."""
        return f"KeepZeros({', '.join(self._names)})"

    def start(self, module: nn.Module) -> None:
        """Record the positions of the zeros."""
        parameters = dict(module.named_parameters(remove_duplicate=False))
        self._held = [(parameter, parameter.detach() == 0) for name in self._names
                      if (parameter := parameters.get(name)) is not None]

    def before_step(self, step: Step) -> None:
        """Mask the gradients."""
        del step
        for parameter, zeros in self._held:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(zeros, 0.0)

    def after_step(self, step: Step) -> None:
        """Mask the weights."""
        del step
        for parameter, zeros in self._held:
            parameter.masked_fill_(zeros, 0.0)

    @property
    def may_keep_initial_weights(self) -> bool:
        """True: the initial weights already have the zeros."""
        return True
