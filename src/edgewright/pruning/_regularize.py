"""Training with a penalty that drives channels to zero, so that they can be removed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, final

from pydantic import Field

from edgewright.allocation import CostModel, allocate_channels
from edgewright.channels import ChannelGroups, find_groups, remove_channels
from edgewright.core import Settings, format_skip_reasons
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.pruning._config import ChannelPruning
from edgewright.pruning._coupled_slices import CoupledSlices
from edgewright.pruning._explicit_widths import channels_above_widths
from edgewright.pruning._penalties import GroupLasso, GrowingDecay
from edgewright.pruning._prune import create_allocation
from edgewright.pruning.criteria import score_channels
from edgewright.task import Task
from edgewright.timing import measure_layer_latencies
from edgewright.training import (
    ConstrainedObjective,
    GoalLoss,
    Objective,
    Progress,
    StepHook,
    Training,
    check_program,
    train,
)


@final
class StructureRegularization(Settings):
    """Training with a penalty on whole channels.

    Attributes:
        method: ``growing`` drives the channels to zero that ``channels`` selects (Wang et al.
            2021); use it to reach a given ratio. ``group_lasso`` penalizes all channels, so that
            training decides which ones become zero (Wen et al. 2016).
        strength: Strength of the penalty; for ``growing`` its final value. Start with 0.5 for
            ``growing`` and 0.002 for ``group_lasso``.
        growth: Fraction of the training over which the penalty of ``growing`` rises.
        channels: For ``growing``, which channels to drive to zero, in one step; for both methods,
            the layers to ignore.
        training: The training schedule.

    Raises:
        UsageError: A value is out of range.

    Example:
        >>> StructureRegularization().method
        'growing'
    """

    method: Literal["growing", "group_lasso"] = "growing"
    strength: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    growth: float = Field(default=0.7, gt=0, le=1)
    channels: ChannelPruning = ChannelPruning(criterion="magnitude")
    training: Training = Training(epochs=10, lr=0.02)


def regularize(program: Program, task: Task, config: StructureRegularization | None = None, *,
               objective: Objective | None = None, seed: int = 0, checkpoint: Path | None = None,
               progress: Progress | None = None) -> Program:
    """Train with a penalty so that channels become zero or close to zero.

    Then `remove_vanished` or `prune` removes them with almost no change of the outputs. The result
    has the weights of the last epoch, because the penalty is complete only then.

    Args:
        program: In floating point; it is not changed.
        task: The data.
        config: The penalty and the training.
        objective: What the training minimizes besides the penalty; None for the label loss.
        seed: Seed for choosing channels, and of the training.
        checkpoint: File for the training's state, from which it can be resumed.
        progress: Shows the training's progress.

    Raises:
        UsageError: The program is quantized, or nothing in it can be pruned.
        TrainingError: The loss is no longer finite.

    Example:
        >>> import torch
        >>> x, y = torch.randn(64, 4), torch.arange(64) % 2
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> config = StructureRegularization(training=Training(epochs=1))
        >>> program = regularize(Program.capture(model, x), Task((x, y), test=(x, y)), config)
        >>> program.costs().macs
        48
    """
    config = config or StructureRegularization()
    groups = _find_removable_groups(program, config.channels.ignore)
    objective = objective or GoalLoss(task.goal, config.training.label_smoothing)
    check_program(program, task, objective)
    hook = _create_penalty(program, task, groups, config, seed)
    module = program.module(train=True)
    train(module, task, config.training, ConstrainedObjective(objective, (hook,)), seed=seed,
          checkpoint=checkpoint, progress=progress)
    return program.with_state(module.state_dict())


def remove_vanished(program: Program, ignore: tuple[str, ...] = (),
                    tolerance: float = 1e-3) -> Program:
    """Remove the channels that a penalty has driven to zero.

    Args:
        program: In floating point; it is not changed.
        ignore: Names or patterns of layers whose output channels are kept.
        tolerance: Channels are removed if their norm is at most this fraction of the largest norm
            in their group. The largest is always kept.

    Raises:
        UsageError: The program is quantized, or nothing in it can be pruned.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> with torch.no_grad():
        ...     for tensor in (model[0].weight[3:], model[0].bias[3:], model[1].weight[:, 3:]):
        ...         _ = tensor.zero_()
        >>> remove_vanished(Program.capture(model, torch.zeros(1, 4))).costs().macs
        18
    """
    groups = _find_removable_groups(program, ignore)
    slices = CoupledSlices(groups, program.module())
    norms = slices.norms()
    largest = norms.new_zeros(len(groups.groups)).scatter_reduce_(
        0, slices.group_indices, norms, "amax")
    is_zero = norms <= tolerance * largest[slices.group_indices]
    vanished = [c for c, zero in zip(slices.channels, is_zero.tolist(), strict=True) if zero]
    return remove_channels(program, groups, vanished)


def _find_removable_groups(program: Program, ignore: tuple[str, ...]) -> ChannelGroups:
    if program.is_quantized:
        raise UsageError("channels of a quantized program cannot be removed; remove them "
                         "before quantizing")
    groups = find_groups(program, ignore)
    if not groups.groups:
        raise UsageError("no channel of this program can be removed: "
                         f"{format_skip_reasons(groups.kept)}")
    return groups


def _create_penalty(program: Program, task: Task, groups: ChannelGroups,
                    config: StructureRegularization, seed: int) -> StepHook:
    if config.method == "group_lasso":
        return GroupLasso(groups, config.strength)
    selection = config.channels
    scores = score_channels(program, task, groups, selection, seed)
    if selection.widths is not None:
        removed = channels_above_widths(program, groups, scores, selection.widths)
        return GrowingDecay(groups, removed, config.strength, config.growth)
    latency = measure_layer_latencies(program, groups) if selection.target == "latency" else None
    cost = CostModel(program, groups, selection.target, latency)
    removed = allocate_channels(cost, scores, create_allocation(selection))
    return GrowingDecay(groups, removed, config.strength, config.growth)
