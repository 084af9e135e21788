"""How important a channel is: one score each, gathered over everything it is sliced from."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgewright.errors import UsageError
from edgewright.program import ChannelGroup, ChannelGroups, Program, stored_tensors
from edgewright.pruning._config import ChannelPruning
from edgewright.task import Task
from edgewright.training import as_outputs

Scores = dict[int, float]
_BATCH: Final = 64


def score_channels(program: Program, task: Task | None, groups: ChannelGroups,
                   config: ChannelPruning, seed: int) -> Scores:
    """A score for every channel of every group; the lowest matter least.

    Raises:
        UsageError: The criterion looks at data and there is no task.
    """
    if config.criterion == "random":
        generator = np.random.default_rng(seed)
        channels = [channel for group in groups.groups for channel in group.channels]
        return dict(zip(channels, generator.random(len(channels)).tolist(), strict=True))
    if config.criterion == "magnitude":
        return _gather(groups, _squared_norms(program, groups))
    if task is None:
        raise UsageError("criterion='taylor' needs data; give a task, or use 'magnitude'")
    return _taylor(program, task, groups, config.samples, seed)


TensorScores = dict[tuple[str, int], NDArray[np.float64]]


def _gather(groups: ChannelGroups, scores: TensorScores, exponent: int = 1) -> Scores:
    """The sum over a channel's slice of every tensor, to a power, added up over the tensors."""
    return {channel: sum(float(scores[place][indices].sum()) ** exponent
                         for place, indices in groups.slices(channel).items()
                         if place in scores)
            for group in groups.groups for channel in group.channels}


def _places(group: ChannelGroup) -> tuple[tuple[str, int], ...]:
    return tuple(place for place in group.slices if "running_" not in place[0])


def _squared_norms(program: Program, groups: ChannelGroups) -> TensorScores:
    tensors = stored_tensors(program.graph_module)
    places = {place for group in groups.groups for place in _places(group)}
    return {(name, dim): _over_others(tensors[name].detach().double() ** 2, dim).numpy()
            for name, dim in places}


def _taylor(program: Program, task: Task, groups: ChannelGroups, samples: int,
            seed: int) -> Scores:
    """Sum over batches of (gradient times weight, summed over the slice) squared."""
    module = program.module()
    parameters = dict(module.named_parameters(remove_duplicate=False))
    places = {place for group in groups.groups for place in _places(group)
              if place[0] in parameters}
    scores = {channel: 0.0 for group in groups.groups for channel in group.channels}
    split = task.train.sample(min(samples, len(task.train)), seed=seed)
    for batch in split.batches(_BATCH):
        module.zero_grad()
        losses = [F.cross_entropy(logits, batch.targets)
                  for logits in as_outputs(module(*batch.inputs))]
        torch.autograd.backward(torch.stack(losses).mean())
        changes = {(name, dim): _over_others((gradient * parameters[name].detach()).double(),
                                             dim).numpy()
                   for name, dim in places if (gradient := parameters[name].grad) is not None}
        for channel, change in _gather(groups, changes, exponent=2).items():
            scores[channel] += change
    return scores


def _over_others(values: Tensor, dim: int) -> Tensor:
    """The sum over every dimension but one."""
    return values.movedim(dim, 0).flatten(1).sum(dim=1) if values.ndim > 1 else values
