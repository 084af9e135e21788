"""Over which windows an average pooling goes."""

from __future__ import annotations

from typing import Final, NamedTuple

from torch.fx import Node

from edgewright.graph._nodes import argument

_NAMES: Final = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
                 "divisor_override")


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
    window = PoolWindow(*(argument(node, name) for name in _NAMES))
    size, step, padding = (_both(sides) for sides in (window.size, window.step, window.padding))
    return window._replace(size=size, step=step or size, padding=padding)


def set_pool_window(node: Node, window: PoolWindow) -> None:
    """Write a window into a call of ``avg_pool2d``, in full."""
    node.args = (node.args[0], *window)
    node.kwargs = {}


def _both(sides: int | list[int]) -> list[int]:
    """Rows and columns; one number stands for both."""
    values = [sides] if isinstance(sides, int) else list(sides)
    return values * 2 if len(values) == 1 else values
