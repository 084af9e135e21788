"""Reading a graph node: the name of its operator, its arguments, its line in the user's code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import torch
from torch.fx import Graph, Node

_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+)(?:, in [^\n]*\n\s*(.*))?')


def calls(graph: Graph) -> Iterator[Node]:
    """The operator calls of a graph, in order."""
    return (node for node in graph.nodes if node.op == "call_function")


def op_name(node: Node) -> str:
    """The plain name of a call's operator; see `base_name`."""
    return base_name(node.target)


@cache
def base_name(target: Any) -> str:
    """An operator's plain name, shared by its overloads and its in-place variant.

    Example:
        >>> aten = torch.ops.aten
        >>> base_name(aten.conv2d.padding), base_name(aten.relu_.default)
        ('conv2d', 'relu')
    """
    if not isinstance(target, torch._ops.OpOverload):
        return str(getattr(target, "__name__", target))
    name = str(target._schema.name).removeprefix("aten::")
    return name if name.startswith("__") else name.rstrip("_")


def user_frame(node: Node) -> tuple[str, str, str] | None:
    """File, line number and code in the user's model of a node's call; None if unknown."""
    frames: list[tuple[str, str, str]] = _FRAME.findall(node.meta.get("stack_trace") or "")
    return frames[-1] if frames else None


def user_location(node: Node) -> str:
    """Location of a call in the user's code, as " at file:line"; empty if unknown."""
    caller = user_frame(node)
    return "" if caller is None else f" at {caller[0]}:{caller[1]}"


# Element-wise, but not tagged as such by torch.
_POINTWISE: Final = frozenset({"hardswish", "rsub", "log_sigmoid", "floor_divide"})


def is_pointwise(target: Any) -> bool:
    """Whether an operator is element-wise."""
    return isinstance(target, torch._ops.OpOverload) and (
        torch.Tag.pointwise in target.tags
        or base_name(target) in _POINTWISE)


_QUANTIZATION: Final = "quantized_decomposed"  # the namespace of a quantized program's operators
_DEQUANTIZERS: Final = frozenset({
    "dequantize_per_tensor", "dequantize_per_channel", "dequantize_per_channel_group",
    "dequantize_per_token",
})


def is_quantization(node: Node) -> bool:
    """Whether a call quantizes, dequantizes, or chooses a quantization grid."""
    target: Any = node.target
    return isinstance(target, torch._ops.OpOverload) and target.namespace == _QUANTIZATION


def is_dequantization(node: Node) -> bool:
    """Whether a call dequantizes integers."""
    target: Any = node.target
    return is_quantization(node) and target.overloadpacket.__name__ in _DEQUANTIZERS


def argument(node: Node, name: str, default: Any = None) -> Any:
    """An argument of a call, by its name in the operator's schema.

    Args:
        node: The call.
        name: Name of the argument.
        default: Returned if neither the call nor the schema has a value.

    Returns:
        The value given in the call, or else the schema's default.

    Example:
        >>> graph = torch.fx.Graph()
        >>> x, w = graph.placeholder("x"), graph.placeholder("w")
        >>> call = graph.call_function(torch.ops.aten.conv2d.default, (x, w, None, [2, 2]))
        >>> argument(call, "stride"), argument(call, "groups"), argument(call, "scale", 1.0)
        ([2, 2], 1, 1.0)
    """
    if name in node.kwargs:
        return node.kwargs[name]
    found = _parameters(node.target).get(name)
    if found is None:
        return default
    if found.position < len(node.args):
        return node.args[found.position]
    return list(found.default) if isinstance(found.default, tuple) else (
        found.default if found.has_default else default)


def has_argument(node: Node, name: str) -> bool:
    """Whether a call's operator has an argument with this name."""
    return name in _parameters(node.target)


def set_argument(node: Node, name: str, value: Any) -> None:
    """Set an argument, in place: where the call has it, else appended if next, else by keyword."""
    found = _parameters(node.target).get(name)
    if found is not None and found.position < len(node.args):
        node.update_arg(found.position, value)
    elif found is not None and found.position == len(node.args) and not (
            found.is_keyword or name in node.kwargs):
        node.args = (*node.args, value)
    else:
        node.update_kwarg(name, value)


class _Parameter(NamedTuple):
    """One argument of a schema; a default that is a list is stored as a tuple."""

    position: int
    is_keyword: bool
    has_default: bool
    default: Any


@cache
def _parameters(target: Any) -> Mapping[str, _Parameter]:
    if not isinstance(target, torch._ops.OpOverload):
        return {}
    return {parameter.name: _Parameter(index, parameter.kwarg_only, parameter.has_default_value(),
                                       _hashable(parameter.default_value))
            for index, parameter in enumerate(target._schema.arguments)}


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def read_tensor(node: Node) -> torch.Tensor | None:
    """The tensor that a ``get_attr`` node reads from its graph's module."""
    value = attrgetter(str(node.target))(node.graph.owning_module)
    return value if isinstance(value, torch.Tensor) else None
