"""How a program is pruned."""

from __future__ import annotations

from typing import Literal, final

from pydantic import Field

from edgewright.training import Settings


@final
class ChannelPruning(Settings):
    """Structured pruning of channels.

    Attributes:
        criterion: ``magnitude`` (squared L2 norm of a channel's weights over its whole group; Li
            2017, grouped as in Fang 2023), ``taylor`` (what removing it changes in the loss, to
            first order; Molchanov 2019, eq. 8), or ``random``.
        target: What ``ratio`` counts: multiply-accumulates, parameters or channels.
        ratio: Share of the target to remove, above 0 and below 1.
        allocation: ``uniform`` takes the same share of every group, ``global`` the least important
            channels wherever they are, scores divided by their group's mean.
        round_to: Channels left in a group are a multiple of this, where the group is that large.
            Integer kernels on x86 reward 16.
        ignore: Names or patterns of layers whose output channels must stay.
        samples: Training samples the data-driven criteria look at.

    Raises:
        UsageError: A value out of its range.

    Example:
        >>> ChannelPruning(ratio=1.5)
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: ChannelPruning: ratio: Input should be less than 1, got 1.5
    """

    criterion: Literal["magnitude", "taylor", "random"] = "taylor"
    target: Literal["macs", "params", "channels"] = "macs"
    ratio: float = Field(default=0.5, gt=0, lt=1)
    allocation: Literal["uniform", "global"] = "global"
    round_to: int = Field(default=4, ge=1)
    ignore: tuple[str, ...] = ()
    samples: int = Field(default=1024, ge=1)
