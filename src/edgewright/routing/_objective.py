"""The loss that a gate learns by: the task's, the expected cost, and a balance that decays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.goals import Goal
from edgewright.graph import ops
from edgewright.routing._candidates import Candidates
from edgewright.routing._config import Routing
from edgewright.task import Batch, Split
from edgewright.training import Objective, Score, Step, StepHook, run_batches


@final
class Progress(StepHook):
    """Share of the training that is complete."""

    def __init__(self) -> None:
        self.share = 0.0

    def after_step(self, step: Step) -> None:
        """Record the share."""
        self.share = step.progress

    def state(self) -> dict[str, Tensor]:
        """The share, so that a resumed run goes on with it."""
        return {"share": torch.tensor(self.share, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the share."""
        self.share = float(state["share"])


@final
class RouteObjective(Objective):
    """The loss of gate and branches together.

    With p the softmax of the gate's logits, c the branches' multiply-accumulates over the largest,
    and t the share of the training that is complete::

        goal(y, targets) + cost_weight * mean over the samples of sum_k p_k c_k
            + balance_weight * (1 - t) * (K sum_k (mean p_k)^2 - 1)

    The first term is the task's loss of a mixture y of the branches' outputs, with the weights of
    the Gumbel-softmax (Jang, Gu & Poole 2017, "Categorical reparameterization with Gumbel-softmax",
    eq. 2; used for such gates by Veit & Belongie 2018, "Convolutional networks with adaptive
    inference graphs"): the softmax of the logits plus Gumbel noise, over a temperature that
    decreases until one weight is near 1. The paper of the gates uses the straight-through form,
    which takes one branch forward; with the few branches here the mixture learned better gates,
    and the fine-tuning with one branch per sample comes after. The last term is the squared
    coefficient of variation of the branches' importance (Shazeer et al. 2017, "Outrageously large
    neural networks", eq. 7), which here decays. Epochs are compared without noise, temperature and
    balance: by the loss of the branch with the highest score, plus the cost of that branch.

    Args:
        goal: The task's goal.
        costs: Multiply-accumulates per branch.
        config: Weights and temperatures.
    """

    def __init__(self, goal: Goal, costs: Sequence[int], config: Routing) -> None:
        self._goal, self._config = goal, config
        largest = max(*costs, 1)
        self._costs = torch.tensor([cost / largest for cost in costs])
        self._progress = Progress()

    @property
    def name(self) -> str:
        """Identifies goal, costs and weights in a checkpoint."""
        config = self._config.model_dump(exclude={"training", "finetuning"})
        return f"RouteObjective({self._goal.identity}, {self._costs.tolist()}, {config})"

    @property
    def hooks(self) -> tuple[StepHook, ...]:
        """Follows the progress, by which temperature and balance change."""
        return (self._progress,)

    def check(self, outputs: tuple[Any, ...], batch: Batch, exits: int) -> None:
        """Check that the selected outputs fit the goal."""
        del exits
        self._goal.check_outputs(Candidates(*outputs[-1]).select(), batch.inputs)

    def to(self, device: torch.device) -> None:
        """Move the costs to a device."""
        self._costs = self._costs.to(device)

    def loss(self, outputs: tuple[Any, ...], batch: Batch) -> Tensor:
        """The loss of the mixture, with the expected cost and the balance."""
        candidates = Candidates(*outputs[-1])
        share = self._progress.share
        start, end = self._config.temperature
        weights = _draw(candidates.scores, start * (end / start) ** share)
        mixed = pytree.tree_map(lambda *leaves: _mix(weights, leaves), *candidates.outputs)
        shares = candidates.scores.softmax(dim=1)
        imbalance = shares.shape[1] * shares.mean(dim=0).square().sum() - 1
        return (self._goal.loss(mixed, batch.targets)
                + self._config.cost_weight * (shares @ self._costs).mean()
                + self._config.balance_weight * (1 - share) * imbalance)

    def validate(self, module: nn.Module, split: Split, *, exits: int | None = None,
                 device: torch.device | None = None) -> Score:
        """The loss with one branch per sample, as deployed, with the cost of that branch."""
        total = 0.0
        for outputs, batch in run_batches(module, split, exits=exits, device=device):
            candidates = Candidates(*outputs[-1])
            costs = self._costs[candidates.scores.argmax(dim=1)]
            loss = self._goal.loss(candidates.select(), batch.targets)
            total += float(loss + self._config.cost_weight * costs.mean()) * batch.size
        return Score("loss and cost", total / len(split), higher_is_better=False)


def _draw(scores: Tensor, temperature: float) -> Tensor:
    """Weights of the branches for each sample: a relaxed draw, (N, branches)."""
    noise = -torch.empty_like(scores).exponential_().log()
    return ((scores + noise) / temperature).softmax(dim=1)


def _mix(weights: Tensor, leaves: Sequence[Tensor]) -> Tensor:
    """The weighted sum of the branches' values; of integers the one with the largest weight."""
    if not leaves[0].is_floating_point():
        return cast("Tensor", ops.ROUTE(weights.argmax(dim=1), list(leaves)))
    shape = (*weights.T.shape, *(1,) * (leaves[0].ndim - 1))
    return (torch.stack(list(leaves)) * weights.T.reshape(shape)).sum(dim=0)
