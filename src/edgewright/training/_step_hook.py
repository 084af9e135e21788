"""What can happen around every step of the optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """One step of the optimiser.

    Attributes:
        index: Counted from 0 over the whole run.
        total: Steps of the whole run.
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
        """Share of the run that is done after this step."""
        return (self.index + 1) / self.total


class StepHook:
    """A constraint or a penalty on the weights; this one does nothing, override what is needed.

    `train` calls ``start`` once, then ``before_step`` and ``after_step`` around every step, without
    gradients being recorded. Hooks act in the order in which they were given.
    """

    @property
    def name(self) -> str:
        """Identifies the hook and its settings in a checkpoint."""
        return type(self).__name__

    def start(self, module: nn.Module) -> None:
        """The training begins; the module is where it will be trained."""
        del module

    def before_step(self, step: Step) -> None:
        """Gradients are there, those of the objective itself, not yet clipped."""
        del step

    def after_step(self, step: Step) -> None:
        """The optimiser has moved the weights."""
        del step

    def settled(self, step: Step) -> bool:
        """Whether weights as they are after ``step`` may be the training's result.

        An epoch that ends unsettled is never the best one; the last epoch always counts. A hook
        that is not settled after the first step is refused where weights are averaged.
        """
        del step
        return True

    @property
    def admits_start(self) -> bool:
        """Whether the weights that a training is given may be its result, once it has started.

        Where every hook says so, they are kept unless an epoch is at least as good. A constraint
        that only the training brings about says no, as this one does.
        """
        return False

    def state(self) -> dict[str, Tensor]:
        """All that an interrupted run needs to go on from here."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state`` gave; called after ``start``."""
        del state
