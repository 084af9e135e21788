"""The settings of learning a route."""

from __future__ import annotations

from typing import final

from pydantic import Field

from edgewright.core import Settings
from edgewright.training import Training


@final
class Routing(Settings):
    """How a gate learns which branch each sample takes; see `route`.

    Attributes:
        cost_weight: Weight, in the loss, of the branches' expected multiply-accumulates, relative
            to the most expensive branch. It is a loss of that size, in the task's own units, that a
            sample must save to be worth the most expensive branch; 0 ignores the costs.
        balance_weight: Weight of an equal use of the branches. It decreases to 0 over the training,
            so that it keeps every branch alive while all learn, but does not decide the result.
        temperature: Of the Gumbel-softmax, at the start and at the end: a high one mixes the
            branches, near 0 every sample takes one of them.
        training: The training of gate, branches and trunk together.
        finetuning: The training after it, in which every sample takes one branch, as in deployment,
            and the gate does not change; None for none.

    Raises:
        UsageError: A value out of range, or an unknown name.

    Example:
        >>> Routing(cost_weight=0.3).balance_weight
        2.0
    """

    cost_weight: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    balance_weight: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    temperature: tuple[float, float] = (2.0, 0.5)
    training: Training = Training(epochs=20)
    finetuning: Training | None = Training(epochs=3, lr=0.01)
