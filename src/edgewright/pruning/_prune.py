"""The pruning pass."""

from __future__ import annotations

from edgewright.errors import UsageError
from edgewright.program import Program, remove_channels
from edgewright.pruning._config import ChannelPruning
from edgewright.pruning._criteria import score_channels
from edgewright.search import allocate_channels
from edgewright.task import Task


def prune(program: Program, task: Task | None = None, config: ChannelPruning | None = None, *,
          seed: int = 0) -> Program:
    """Remove the channels that matter least; what is left computes the same as if they were zero.

    Args:
        program: In floating point; it is left as it is.
        task: Data for the criteria that need it.
        config: What to remove; half of the multiply-accumulates if left out.
        seed: Of the samples looked at, and of ``random``.

    Raises:
        UsageError: The program is quantised, nothing in it can be pruned, an ``ignore`` matches
            nothing, a criterion lacks data, or the ratio cannot be reached.
        ParityError: Masked and sliced programs differ.

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
    if program.is_quantized:
        raise UsageError("a quantised program cannot be pruned; prune before quantising")
    groups = program.groups(config.ignore)
    if not groups.groups:
        reasons = "; ".join(f"{name}: {why}" for name, why in groups.kept.items())
        raise UsageError(f"no channel of this program can be pruned ({reasons or 'no layers'})")
    scores = score_channels(program, task, groups, config, seed)
    removed = allocate_channels(groups, scores, target=config.target, ratio=config.ratio,
                                allocation=config.allocation, round_to=config.round_to)
    return remove_channels(program, groups, removed)
