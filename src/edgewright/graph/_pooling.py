"""Over which windows an average pooling goes."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch.fx import Node


class PoolWindow(NamedTuple):
    """The arguments of ``avg_pool2d`` after its input, in their order.

    Attributes:
        size: Rows and columns.
        step: Rows and columns to go on by.
        padding: Rows and columns of zeros on either side.
        ceil_mode: Windows may begin in the padding behind.
        counts_padding: These zeros count.
        divisor: What a sum is divided by; None for the numbers in it.
    """

    size: list[int]
    step: list[int]
    padding: list[int]
    ceil_mode: bool
    counts_padding: bool
    divisor: int | None


def pool_window(node: Node) -> PoolWindow:
    """The window of an ``avg_pool2d``, with what its call leaves out.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> program = Program.capture(torch.nn.AvgPool2d(2), torch.zeros(1, 1, 4, 4))
        >>> pool_window(next(program.calls()))[:3]
        ([2, 2], [2, 2], [0, 0])
    """
    given: Any = node.args[1:]
    size = given[0]
    usual = size, size, [0, 0], False, True, None
    window = PoolWindow(*given, *usual[len(given):])
    return window if window.step else window._replace(step=size)
