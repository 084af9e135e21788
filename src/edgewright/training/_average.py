"""An exponential moving average (EMA) of the weights."""

from __future__ import annotations

import warnings
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from edgewright.errors import UsageError
from edgewright.training._step_hook import Step, StepHook

Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


def make_moving_average(module: nn.Module, decay: float) -> AveragedModel:
    """Create a module that averages a module's weights over the steps, initially a copy of it.

    After every step, ``average <- decay * average + (1 - decay) * weights`` (Polyak & Juditsky
    1992, with exponential decay); the first update copies the weights. Floating-point buffers are
    averaged too, integer buffers are copied.

    Args:
        module: The module to copy.
        decay: Between 0 and 1; the average covers about 1 / (1 - decay) steps.

    Raises:
        UsageError: The module cannot be copied.
    """
    def update(average: Tensors, latest: Tensors, _: Tensor | int) -> None:
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, latest, 1 - decay)
        else:
            torch._foreach_copy_(average, latest)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # raised within torch
            return AveragedModel(module, multi_avg_fn=update, use_buffers=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(f"ema needs a copy of the model, but {type(module).__name__} cannot be "
                         f"copied ({error}); set ema=None") from error


def check_hooks(hooks: tuple[StepHook, ...], first: Step) -> None:
    """Check that every hook accepts the weights of the first step, which the average includes.

    Raises:
        UsageError: A hook does not; the message names it.
    """
    for hook in hooks:
        if not hook.is_settled(first):
            raise UsageError(f"ema would include weights from before {type(hook).__name__} has "
                             "taken full effect, which would undo the constraint; set ema=None")
