"""Scores of channels by the criterion that a config names."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgewright.channels import ChannelGroups
from edgewright.errors import ModelError, UsageError
from edgewright.program import Program
from edgewright.pruning._config import ChannelPruning
from edgewright.pruning.criteria._activation import activation, apoz
from edgewright.pruning.criteria._batch_norm import batch_norm
from edgewright.pruning.criteria._fisher import fisher, obd
from edgewright.pruning.criteria._gauss_newton import gauss_newton
from edgewright.pruning.criteria._geometric_median import geometric_median
from edgewright.pruning.criteria._lamp import lamp
from edgewright.pruning.criteria._magnitude import l1, l2, magnitude
from edgewright.pruning.criteria._random import random
from edgewright.pruning.criteria._redundancy import redundancy
from edgewright.pruning.criteria._scoring_context import Criterion, ScoringContext, Vector
from edgewright.pruning.criteria._taylor import taylor
from edgewright.task import Task
from edgewright.training import check_program

CRITERIA: Final[dict[str, Criterion]] = {
    "l1": l1,
    "l2": l2,
    "magnitude": magnitude,
    "batch_norm": batch_norm,
    "geometric_median": geometric_median,
    "lamp": lamp,
    "taylor": taylor,
    "fisher": fisher,
    "obd": obd,
    "gauss_newton": gauss_newton,
    "activation": activation,
    "apoz": apoz,
    "redundancy": redundancy,
    "random": random,
}
"""All criteria by their names in `ChannelPruning`."""
_EQUALITY_TOLERANCE: Final = 1e-9


def score_channels(program: Program, task: Task | None, groups: ChannelGroups,
                   config: ChannelPruning, seed: int) -> dict[int, float]:
    """Score every channel of every group; low scores mean unimportant channels.

    Args:
        program: The program; it is not changed.
        task: The data; criteria that need data use samples of the training split.
        groups: The program's channels.
        config: The criterion, and its number of samples.
        seed: Seed for choosing samples, and for ``random``.

    Returns:
        Scores by channel, finite and not negative.

    Raises:
        UsageError: The criterion needs data and there is no task; it needs activations and no
            layer reads those of a group; or it gives all channels the same score.
        ModelError: A score is not finite; or the criterion needs the loss or the predictions, and
            the program's outputs do not fit the task's goal.

    Example:
        >>> from edgewright.channels import find_groups
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
        >>> for weight in model.parameters():
        ...     _ = torch.nn.init.constant_(weight, 2.0)
        >>> with torch.no_grad():
        ...     _ = model[0].bias[2].zero_()
        >>> program = Program.capture(model, torch.zeros(1, 2))
        >>> config = ChannelPruning(criterion="magnitude")  # 2 weights in, 1 bias, 1 weight out
        >>> list(score_channels(program, None, find_groups(program), config, seed=0).values())
        [16.0, 16.0, 12.0]
    """
    if not groups.groups:
        return {}
    if task is not None and config.uses_predictions:
        check_program(program, task)
    split = None if task is None else task.train.sample(min(config.samples, len(task.train)),
                                                        seed=seed)
    context = ScoringContext(program, groups, config.criterion, split, seed,
                             None if task is None else task.goal)
    scores = CRITERIA[config.criterion](context)
    for group, span in zip(groups.groups, context.spans, strict=True):
        if not np.isfinite(scores[span]).all():
            worst = scores[span][~np.isfinite(scores[span])][0]
            raise ModelError(f"criterion={config.criterion!r} gives a score of {worst} in "
                             f"{group.name}; expected finite weights and gradients: check the "
                             "weights for NaN or infinity")
    _check_scores_differ(scores, context)
    channels = [channel for group in groups.groups for channel in group.channels]
    return dict(zip(channels, scores.tolist(), strict=True))


def _check_scores_differ(scores: Vector, context: ScoringContext) -> None:
    """Raise an error if all scores are equal: the storage order would decide what is removed."""
    if context.channel_count > 1 and all(
            np.ptp(scores[span]) <= _EQUALITY_TOLERANCE * abs(scores[span]).max()
            for span in context.spans):
        raise UsageError(f"criterion={context.criterion!r} scores every channel of every group the "
                         f"same ({scores[0]:.3g} in {context.groups.groups[0].name}) and cannot "
                         "rank them; use another criterion ('magnitude'), and check whether the "
                         "model is trained and its outputs depend on the inputs")
