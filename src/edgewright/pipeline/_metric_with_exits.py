"""A goal's metrics of outputs at the exits where samples leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.core import ExitPolicy, ExitRule
from edgewright.exits import AcceptRules, find_exits, score_exits
from edgewright.goals import Goal, read_metric
from edgewright.pipeline._file_metric import nest_outputs
from edgewright.runtime import Session
from edgewright.task import Split, Task
from edgewright.training import update_metric

_BATCH = 256


def leave(goal: Goal, outputs: Sequence[Tensor], rules: Sequence[ExitRule], policy: ExitPolicy,
          scores: NDArray[Any] | None = None) -> Tensor:
    """The output of each sample at the exit where it leaves.

    Args:
        goal: Says how sure an exit is.
        outputs: What every exit returns for a batch, the last one included.
        rules: One per early exit.
        policy: The score, if a device computes it.
        scores: Of each early exit, (early exits, N), if the file computes them.
    """
    if goal.scores_on_device:
        scores = score_exits([output.numpy() for output in outputs], rules, policy)
    elif scores is None:
        scores = torch.stack([goal.exit_confidence(output) for output in outputs[:-1]]).numpy()
    left_at = torch.from_numpy(find_exits(scores, [rule.threshold for rule in rules]))
    return torch.stack(list(outputs))[left_at, torch.arange(len(left_at))]


def make_acceptance(session: Session, task: Task, policy: ExitPolicy) -> AcceptRules | None:
    """What the primary metric allows: it may drop as much as the exits may cost.

    Args:
        session: The file.
        task: Its validation split and goal.
        policy: The score of the exits.

    Returns:
        None if the exits' own measure is the primary metric, or that is no fraction, so that their
        drops cannot be compared.
    """
    spec = task.goal.metrics[0].spec
    if spec.name == task.goal.exit_measure or spec.unit != "fraction":
        return None
    return _MetricLimit(session, task.val, task.goal, policy)


@final
@dataclass(frozen=True)
class _MetricLimit:
    """Allows rules with which the primary metric drops by no more than the exits may cost."""

    session: Session
    split: Split
    goal: Goal
    policy: ExitPolicy

    def __call__(self, candidates: Sequence[tuple[ExitRule, ...]], *, drop: float) -> list[bool]:
        """Measure all candidates in one pass; the last one has no early exits."""
        primary = self.goal.metrics[0]
        metrics = [primary.make() for _ in candidates]
        for batch in self.split.batches(_BATCH):
            arrays = tuple(leaf.numpy() for leaf in pytree.tree_leaves(batch.inputs))
            found = self.session.run_all_exits(*arrays)
            outputs = [nest_outputs(self.session.model, one.outputs) for one in found]
            known = [one.scores for one in found if one.scores is not None]
            for metric, rules in zip(metrics, candidates, strict=True):
                taken = leave(self.goal, outputs, rules, self.policy,
                              np.stack(known) if known else None)
                update_metric(self.goal, metric, taken, batch.targets)
        sign = 1 if primary.spec.higher_is_better else -1
        values = [sign * read_metric(primary.spec.name, metric) for metric in metrics]
        return [values[-1] - value <= drop + 1e-12 for value in values]
