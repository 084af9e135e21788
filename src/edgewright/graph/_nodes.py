"""Reading one graph node: its operator's name, its arguments."""

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
    """The plain name of the operator that a call is of, see `base_name`."""
    return base_name(node.target)


@cache
def base_name(target: Any) -> str:
    """An operator's plain name, which its overloads and its in-place form share.

    Example:
        >>> aten = torch.ops.aten
        >>> base_name(aten.conv2d.padding), base_name(aten.relu_.default)
        ('conv2d', 'relu')
    """
    if not isinstance(target, torch._ops.OpOverload):
        return str(getattr(target, "__name__", target))
    name = str(target._schema.name).removeprefix("aten::")
    return name if name.startswith("__") else name.rstrip("_")


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
        or base_name(target) in _POINTWISE)


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


def argument(node: Node, name: str, default: Any = None) -> Any:
    """An argument of a call by the name its operator's schema gives it.

    Args:
        node: The call.
        name: The argument's.
        default: Where neither the call nor the schema has a value for it.

    Returns:
        What the call gives, or else the schema's default.

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
    if found.place < len(node.args):
        return node.args[found.place]
    return list(found.default) if isinstance(found.default, tuple) else (
        found.default if found.has_default else default)


def takes(node: Node, name: str) -> bool:
    """Whether an operator has an argument of this name."""
    return name in _parameters(node.target)


def set_argument(node: Node, name: str, value: Any) -> None:
    """Write an argument where the call has it, else by place where it is next, or by keyword."""
    found = _parameters(node.target).get(name)
    if found is not None and found.place < len(node.args):
        node.update_arg(found.place, value)
    elif found is not None and found.place == len(node.args) and not (
            found.is_keyword or name in node.kwargs):
        node.args = (*node.args, value)
    else:
        node.update_kwarg(name, value)


class _Parameter(NamedTuple):
    """What a schema says of one argument; a default that is a list is kept as a tuple."""

    place: int
    is_keyword: bool
    has_default: bool
    default: Any


@cache
def _parameters(target: Any) -> Mapping[str, _Parameter]:
    if not isinstance(target, torch._ops.OpOverload):
        return {}
    return {parameter.name: _Parameter(place, parameter.kwarg_only, parameter.has_default_value(),
                                       _frozen(parameter.default_value))
            for place, parameter in enumerate(target._schema.arguments)}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def read_tensor(node: Node) -> torch.Tensor | None:
    """The tensor that a ``get_attr`` node reads from the module its graph belongs to."""
    value = attrgetter(str(node.target))(node.graph.owning_module)
    return value if isinstance(value, torch.Tensor) else None
