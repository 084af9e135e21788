"""The windows of an average pooling."""

from __future__ import annotations

from typing import Final, NamedTuple

from torch.fx import Node

from edgewright.graph._nodes import argument

_NAMES: Final = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
                 "divisor_override")


class PoolWindow(NamedTuple):
    """The arguments of ``avg_pool2d`` after its input, in order.

    Attributes:
        size: Height and width.
        stride: Vertical and horizontal stride.
        padding: Rows and columns of zeros on each side.
        ceil_mode: Whether windows may start in the padding at the end.
        count_include_pad: Whether the zeros of the padding count in the average.
        divisor: What a window's sum is divided by; None for the number of elements in the window.
    """

    size: list[int]
    stride: list[int]
    padding: list[int]
    ceil_mode: bool
    count_include_pad: bool
    divisor: int | None


def pool_window(node: Node) -> PoolWindow:
    """The window of an ``avg_pool2d``, with defaults filled in.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> program = Program.capture(torch.nn.AvgPool2d(2), torch.zeros(1, 1, 4, 4))
        >>> pool_window(next(program.calls()))[:3]
        ([2, 2], [2, 2], [0, 0])
    """
    window = PoolWindow(*(argument(node, name) for name in _NAMES))
    size, stride, padding = (_as_pair(value)
                             for value in (window.size, window.stride, window.padding))
    return window._replace(size=size, stride=stride or size, padding=padding)


def set_pool_window(node: Node, window: PoolWindow) -> None:
    """Write all of a window's arguments into a call of ``avg_pool2d``, in place."""
    node.args = (node.args[0], *window)
    node.kwargs = {}


def _as_pair(value: int | list[int]) -> list[int]:
    """Rows and columns; a single number is used for both."""
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values
