"""An exponential moving average of the weights, which is often better than the last of them."""

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
    """The average of a module's weights over the steps, itself a module, as yet a copy of it.

    After every step, ``average <- decay * average + (1 - decay) * weights`` (Polyak & Juditsky
    1992, with weights that fade); the first step's weights are taken as they are. Buffers in
    floating point are averaged too, counters taken over.

    Args:
        module: Is copied.
        decay: Between 0 and 1; 1 / (1 - decay) steps count.

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
            warnings.simplefilter("ignore", FutureWarning)  # torch's, about itself
            return AveragedModel(module, multi_avg_fn=update, use_buffers=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(f"ema needs a copy of the model, but {type(module).__name__} cannot be "
                         f"copied ({error}); set ema to None") from error


def check_hooks(hooks: tuple[StepHook, ...], first: Step) -> None:
    """See that no hook forbids the weights of the first steps, all of which an average holds.

    Raises:
        UsageError: Names the hook.
    """
    for hook in hooks:
        if not hook.settled(first):
            raise UsageError(f"ema would average in weights of before {type(hook).__name__} has "
                             "done its work, and what it brings about during the training would be "
                             "lost; set ema to None")
