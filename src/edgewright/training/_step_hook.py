"""Hooks around every step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """One step of the optimizer.

    Attributes:
        index: Index of the step, counted from 0 over the whole run.
        total: Number of steps of the whole run; if its time is limited, the number expected at the
            speed so far, which is exact at the last step.
        lr: Learning rate of this step.

    Example:
        >>> Step(index=4, total=10, lr=0.1).progress
        0.5
    """

    index: int
    total: int
    lr: float

    @property
    def progress(self) -> float:
        """Share of the run that is complete after this step."""
        return (self.index + 1) / self.total


class StepHook:
    """Base class of constraints and penalties on the weights; override the methods you need.

    `train` calls ``start`` once, then ``before_step`` and ``after_step`` around every step, under
    ``torch.no_grad``. Hooks run in the given order.
    """

    @property
    def name(self) -> str:
        """Identifies the hook and its settings in a checkpoint."""
        return type(self).__name__

    def start(self, module: nn.Module) -> None:
        """Called when training begins, with the module on its training device."""
        del module

    def before_step(self, step: Step) -> None:
        """Called after the backward pass, before gradients are clipped."""
        del step

    def after_step(self, step: Step) -> None:
        """Called after the optimizer has updated the weights."""
        del step

    def is_settled(self, step: Step) -> bool:
        """Whether the weights after ``step`` may be the result of the training.

        An epoch that ends unsettled is never selected as the best; the last epoch always counts. A
        hook that is not settled after the first step cannot be combined with weight averaging.
        """
        del step
        return True

    @property
    def may_keep_initial_weights(self) -> bool:
        """Whether the initial weights may be the result of the training.

        If every hook returns True, they are kept unless an epoch is at least as good. Return False
        (the default) for a constraint that holds only after training.
        """
        return False

    def state(self) -> dict[str, Tensor]:
        """The state needed to resume an interrupted run."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned; called after ``start``."""
        del state
