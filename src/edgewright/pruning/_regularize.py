"""Training toward structure: channels vanish first, and are removed then."""

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
from edgewright.pruning._penalties import GroupLasso, GrowingDecay
from edgewright.pruning._prune import allocation_of
from edgewright.pruning.criteria import score_channels
from edgewright.task import Task
from edgewright.timing import measure_layer_latencies
from edgewright.training import (
    ConstrainedObjective,
    LabelLoss,
    Objective,
    Progress,
    StepHook,
    Training,
    check_program,
    train,
)


@final
class StructureRegularization(Settings):
    """Training under a penalty on whole channels.

    Attributes:
        method: ``growing`` drives the channels to zero that ``channels`` chooses (Wang et al.
            2021), ``group_lasso`` those that training needs least (Wen et al. 2016).
        strength: Of the penalty; for ``growing`` where it ends. 0.5 and 0.002 are fair beginnings.
        growth: Share of the training over which the penalty of ``growing`` rises.
        channels: Which channels go, for ``growing``, in one step; for both, the layers that stay.
        training: The schedule.

    Raises:
        UsageError: A value out of its range.

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
    """Train so that channels vanish; `remove_vanished` or `prune` takes them out at no cost.

    The weights of the last epoch are kept, the only ones that have felt the whole penalty.

    Args:
        program: In floating point; it is left as it is.
        task: Its data.
        config: The penalty and the training.
        objective: What is minimized beside the penalty; the label loss if left out.
        seed: Of the choice of channels and of the training.
        checkpoint: Where the training keeps its state, to be resumed from.
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
    groups = _groups(program, config.channels.ignore)
    objective = objective or LabelLoss(config.training.label_smoothing)
    check_program(program, task, objective)
    hook = _penalty(program, task, groups, config, seed)
    module = program.module(train=True)
    train(module, task, config.training, ConstrainedObjective(objective, (hook,)), seed=seed,
          checkpoint=checkpoint, progress=progress)
    return program.with_state(module.state_dict())


def remove_vanished(program: Program, ignore: tuple[str, ...] = (),
                    tolerance: float = 1e-3) -> Program:
    """Remove the channels that a penalty has driven to zero.

    Args:
        program: In floating point; it is left as it is.
        ignore: Names or patterns of layers whose output channels must stay.
        tolerance: A channel has vanished where its norm is at most this share of the largest of
            its group; the largest always stays.

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
    groups = _groups(program, ignore)
    slices = CoupledSlices(groups, program.module())
    norms = slices.norms()
    largest = norms.new_zeros(len(groups.groups)).scatter_reduce_(
        0, slices.members, norms, "amax")
    gone = norms <= tolerance * largest[slices.members]
    vanished = [c for c, is_gone in zip(slices.channels, gone.tolist(), strict=True) if is_gone]
    return remove_channels(program, groups, vanished)


def _groups(program: Program, ignore: tuple[str, ...]) -> ChannelGroups:
    if program.is_quantized:
        raise UsageError("the channels of a quantized program cannot vanish; do it before "
                         "quantizing")
    groups = find_groups(program, ignore)
    if not groups.groups:
        raise UsageError("no channel of this program can vanish: "
                         f"{format_skip_reasons(groups.kept)}")
    return groups


def _penalty(program: Program, task: Task, groups: ChannelGroups, config: StructureRegularization,
             seed: int) -> StepHook:
    if config.method == "group_lasso":
        return GroupLasso(groups, config.strength)
    chosen = config.channels
    scores = score_channels(program, task, groups, chosen, seed)
    latency = measure_layer_latencies(program, groups) if chosen.target == "latency" else None
    cost = CostModel(program, groups, chosen.target, latency)
    removed = allocate_channels(cost, scores, allocation_of(chosen))
    return GrowingDecay(groups, removed, config.strength, config.growth)
