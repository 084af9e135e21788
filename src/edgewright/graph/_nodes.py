"""Reading one graph node: its operator's name, its arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final

import torch
from torch.fx import Graph, Node

_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+)(?:, in [^\n]*\n\s*(.*))?')


def calls(graph: Graph) -> Iterator[Node]:
    """The operator calls of a graph, in order."""
    return (node for node in graph.nodes if node.op == "call_function")


def op_name(node: Node) -> str:
    """The operator's plain name: "conv2d" for ``aten.conv2d.default``."""
    target: Any = node.target
    name = target._schema.name if isinstance(target, torch._ops.OpOverload) else str(target)
    return str(name).removeprefix("aten::")


def caller_of(node: Node) -> tuple[str, str, str] | None:
    """File, line number and code of the user's call that a node is of; None if torch has none."""
    frames: list[tuple[str, str, str]] = _FRAME.findall(node.meta.get("stack_trace") or "")
    return frames[-1] if frames else None


def line_of(node: Node) -> str:
    """Where the user's code makes a call, as " at file:line"; empty where torch does not say."""
    caller = caller_of(node)
    return "" if caller is None else f" at {caller[0]}:{caller[1]}"


# Element-wise, but not tagged so by torch.
_POINTWISE: Final = frozenset({"hardswish", "rsub", "log_sigmoid", "floor_divide"})


def is_pointwise(target: Any) -> bool:
    """Whether an operator computes each element from the elements at its place alone."""
    return isinstance(target, torch._ops.OpOverload) and (
        torch.Tag.pointwise in target.tags
        or target._schema.name.removeprefix("aten::").rstrip("_") in _POINTWISE)


_QUANTIZATION: Final = "quantized_decomposed"  # the namespace of a quantized program's operators
_DEQUANTIZERS: Final = frozenset({
    "dequantize_per_tensor", "dequantize_per_channel", "dequantize_per_channel_group",
    "dequantize_per_token",
})


def is_quantization(node: Node) -> bool:
    """Whether a call puts values on a grid, chooses one, or leads back to real numbers."""
    target: Any = node.target
    return isinstance(target, torch._ops.OpOverload) and target.namespace == _QUANTIZATION


def dequantizes(node: Node) -> bool:
    """Whether a call computes the real numbers that integers stand for."""
    target: Any = node.target
    return is_quantization(node) and target.overloadpacket.__name__ in _DEQUANTIZERS


def argument(node: Node, position: int, name: str = "", default: Any = None) -> Any:
    """An argument of a call, by position or by name."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def named(node: Node, name: str, default: Any = None) -> Any:
    """An argument of a call by the name its operator's schema gives it."""
    if name in node.kwargs:
        return node.kwargs[name]
    place = place_of(node, name)
    return node.args[place] if place is not None and place < len(node.args) else default


def place_of(node: Node, name: str) -> int | None:
    """Where an operator's schema has the argument ``name``, or None."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return None
    names = [argument.name for argument in target._schema.arguments]
    return names.index(name) if name in names else None


def set_named(node: Node, name: str, value: Any) -> None:
    """Write an argument where the call has it, or by keyword."""
    place = place_of(node, name)
    if place is not None and place < len(node.args):
        node.update_arg(place, value)
    else:
        node.update_kwarg(name, value)


def read_tensor(node: Node) -> torch.Tensor | None:
    """The tensor that a ``get_attr`` node reads from the module its graph belongs to."""
    value = attrgetter(str(node.target))(node.graph.owning_module)
    return value if isinstance(value, torch.Tensor) else None
