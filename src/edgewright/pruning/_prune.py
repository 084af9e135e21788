"""Channel pruning."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from edgewright.allocation import (
    Allocation,
    CostModel,
    LatencyTable,
    allocate_channels,
    require_reachable,
)
from edgewright.channels import (
    ChannelGroups,
    count_channels,
    find_groups,
    remove_channels,
    resolve_widths,
)
from edgewright.core import format_skip_reasons
from edgewright.errors import UsageError
from edgewright.exporters import prove_export
from edgewright.program import Program
from edgewright.pruning._compensate import compensate
from edgewright.pruning._config import ChannelPruning
from edgewright.pruning._explicit_widths import channels_above_widths
from edgewright.pruning._removal_history import RemovalHistory
from edgewright.pruning.criteria import score_channels
from edgewright.task import Split, Task
from edgewright.timing import measure_layer_latencies

Recovery = Callable[[Program, int], Program]


def prune(program: Program, task: Task | None = None, config: ChannelPruning | None = None, *,
          seed: int = 0, recover: Recovery | None = None,
          latency: LatencyTable | None = None) -> Program:
    """Remove the least important channels; equivalent to setting them to zero.

    If there is a task, the remaining weights are fitted to compensate for them. With ``steps``
    above 1 the ratio, which always refers to the original program, is reached in equal steps, and
    scores are computed again on each smaller program. With ``widths``, every named group keeps that
    many channels, in one step.

    Args:
        program: In floating point; it is not changed.
        task: Data for the criteria that need it, and for compensation.
        config: What to remove; None for half of the multiply-accumulates.
        seed: Seed for choosing samples, and for ``random``.
        recover: Called between two steps with the program and the number of steps so far, to train
            the program, for example; it may change weights but not shapes.
        latency: Measured latencies of the layers for ``target="latency"``; None to measure them.

    Raises:
        UsageError: The program is quantized, nothing in it can be pruned, a pattern in ``ignore``
            matches nothing, a criterion lacks data, the ratio cannot be reached, or ``widths`` do
            not fit the program.
        ModelError: The result cannot be exported.
        ParityError: Masked and sliced programs differ, or the exported file from the program.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Linear(16, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> small = prune(program, None, ChannelPruning(criterion="magnitude", ratio=0.5))
        >>> small.costs().macs / program.costs().macs
        0.5
    """
    config = config or ChannelPruning()
    groups = _find_prunable_groups(program, config)
    program = program if task is None else program.with_examples(task.train.example(2))
    if config.widths is None:
        program = _prune_to_ratio(program, groups, task, config, seed, recover, latency)
    else:
        program = _prune_to_widths(program, groups, task, config, seed)
    if config.prove_export:
        prove_export(program)
    return program


def _prune_to_widths(program: Program, groups: ChannelGroups, task: Task | None,
                     config: ChannelPruning, seed: int) -> Program:
    """Remove the least important channels of every group that ``widths`` names."""
    widths = config.widths or {}
    resolve_widths(program, groups, widths)  # refuses before channels are scored
    samples = _compensation_samples(task, config, seed)
    scores = score_channels(program, task, groups, config, seed)
    removed = channels_above_widths(program, groups, scores, widths)
    return _remove_and_compensate(program, groups, removed, samples, config.ridge)


def _prune_to_ratio(program: Program, groups: ChannelGroups, task: Task | None,
                    config: ChannelPruning, seed: int, recover: Recovery | None,
                    latency: LatencyTable | None) -> Program:
    """Remove the ratio in equal steps."""
    samples = _compensation_samples(task, config, seed)
    if config.target == "latency" and latency is None:
        latency = measure_layer_latencies(program, groups)
    cost = CostModel(program, groups, config.target, latency)
    full = replace(create_allocation(config), original=cost.full,
                   legal=replace(config.legal_widths, original_counts=count_channels(groups)))
    require_reachable(cost, full)
    compensates_once = recover is None and not config.uses_data
    original, history = (program, groups), RemovalHistory(groups)
    for step in range(1, config.steps + 1):
        scores = score_channels(program, task, groups, config, seed)
        allocation = replace(full, ratio=config.ratio * step / config.steps)
        removed = allocate_channels(cost, scores, allocation)
        if compensates_once:
            history.record(groups, removed)
        program = _remove_and_compensate(
            program, groups, removed, None if compensates_once else samples, config.ridge)
        if step < config.steps:
            program = recover(program, step) if recover is not None else program
            groups = find_groups(program, config.ignore)
            cost = CostModel(program, groups, config.target, latency)
    if compensates_once and samples is not None:
        program = _remove_and_compensate(*original, history.removed, samples, config.ridge)
    return program


def _remove_and_compensate(program: Program, groups: ChannelGroups, removed: Collection[int],
                           samples: Split | None, ridge: float) -> Program:
    """Remove channels, and compensate for them if there are samples."""
    sliced = remove_channels(program, groups, removed)
    if samples is None:
        return sliced
    return compensate(program, sliced, groups, removed, samples, ridge=ridge)


def create_allocation(config: ChannelPruning) -> Allocation:
    """Create the allocation that a config describes."""
    return Allocation(config.ratio, config.allocation, config.legal_widths,
                      config.normalizes_scores)


def _compensation_samples(task: Task | None, config: ChannelPruning, seed: int) -> Split | None:
    """The samples for `compensate`, or None to skip it."""
    if task is None and config.compensate:
        raise UsageError("compensate=True needs data; give a task, or omit compensate")
    if task is None or config.compensate is False:
        return None
    return task.train.sample(config.samples, seed=seed)


def _find_prunable_groups(program: Program, config: ChannelPruning) -> ChannelGroups:
    if program.is_quantized:
        raise UsageError("a quantized program cannot be pruned; prune before quantizing")
    groups = find_groups(program, config.ignore)
    if not groups.groups:
        raise UsageError("no channel of this program can be pruned: "
                         f"{format_skip_reasons(groups.kept)}")
    return groups
