"""The argument by which an operator says that it is training, found by its schema."""

from __future__ import annotations

from typing import Final

import torch
from torch.fx import Node

from edgewright.graph._nodes import argument, set_argument

# As torch calls it: of dropouts and recurrent layers, of batch norms and rrelu, of instance norms.
_NAMES: Final = ("train", "training", "use_input_stats")


def switch_of(node: Node) -> str | None:
    """The name of a call's argument that says whether it is training, or None.

    Example:
        >>> graph = torch.fx.Graph()
        >>> x = graph.placeholder("x")
        >>> switch_of(graph.call_function(torch.ops.aten.dropout.default, (x, 0.5, False)))
        'train'
        >>> switch_of(graph.call_function(torch.ops.aten.relu.default, (x,)))
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    names = {argument.name for argument in node.target._schema.arguments
             if str(argument.type) in ("bool", "Optional[bool]")}
    return next((name for name in _NAMES if name in names), None)


def is_switched_on(node: Node) -> bool:
    """Whether a call computes as in training."""
    name = switch_of(node)
    return name is not None and bool(argument(node, name, default=False))


def depends_on_mode(node: Node) -> bool:
    """Whether a call of a graph in evaluation form computes something else in training."""
    return switch_of(node) is not None and not is_switched_on(node)


def switch(node: Node, on: bool) -> None:
    """Let a call compute as in training, or as in evaluation, in place."""
    name = switch_of(node)
    if name is not None:
        set_argument(node, name, on)
