"""Scores by the name of a criterion."""

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
from edgewright.pruning.criteria._subject import Criterion, Subject, Vector
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
"""Every criterion under the name `ChannelPruning` knows it by."""
_ROUNDING: Final = 1e-9


def score_channels(program: Program, task: Task | None, groups: ChannelGroups,
                   config: ChannelPruning, seed: int) -> dict[int, float]:
    """A score for every channel of every group, finite and not negative; the lowest matter least.

    Args:
        program: What is judged; it is left as it is.
        task: Its training split is sampled by the criteria that look at data.
        groups: The program's channels.
        config: Which criterion, and how many samples it may look at.
        seed: Of the samples, and of ``random``.

    Raises:
        UsageError: The criterion looks at data and there is no task, or at activations and a
            group's are read by no layer; or it tells no channel from another.
        ModelError: A score is not finite; or the criterion looks at the loss or the logits, and
            the program's outputs are no logits, one tensor per exit.

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
    if task is not None and config.looks_at_logits:
        _check_outputs(program, task, config.criterion)
    split = None if task is None else task.train.sample(min(config.samples, len(task.train)),
                                                        seed=seed)
    subject = Subject(program, groups, config.criterion, split, seed)
    scores = CRITERIA[config.criterion](subject)
    for group, span in zip(groups.groups, subject.spans, strict=True):
        if not np.isfinite(scores[span]).all():
            worst = scores[span][~np.isfinite(scores[span])][0]
            raise ModelError(f"criterion={config.criterion!r} gives a score of {worst} in "
                             f"{group.name}; expected finite weights and gradients: look for NaN "
                             "or infinity in the weights")
    _refuse_equal_scores(scores, subject)
    channels = [channel for group in groups.groups for channel in group.channels]
    return dict(zip(channels, scores.tolist(), strict=True))


def _refuse_equal_scores(scores: Vector, subject: Subject) -> None:
    """Refuse scores by which channels would go in the order they are stored in."""
    if subject.count > 1 and all(np.ptp(scores[span]) <= _ROUNDING * abs(scores[span]).max()
                                 for span in subject.spans):
        raise UsageError(f"criterion={subject.criterion!r} scores every channel of every group the "
                         f"same ({scores[0]:.3g} in {subject.groups.groups[0].name}) and cannot "
                         "say which matter least; use another criterion ('magnitude'), and look "
                         "whether the model is trained and its outputs depend on the inputs")


def _check_outputs(program: Program, task: Task, criterion: str) -> None:
    try:
        check_program(program, task)
    except ModelError as error:
        raise ModelError(f"criterion={criterion!r} asks what happens to a classifier's logits: "
                         f"{error}. For other outputs use a criterion on weights ('magnitude') or "
                         "on activations ('redundancy')") from error
