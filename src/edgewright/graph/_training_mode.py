"""The argument that puts an operator into training mode, found in its schema."""

from __future__ import annotations

from typing import Final

import torch
from torch.fx import Node

from edgewright.graph._nodes import argument, set_argument

# In dropouts and recurrent layers; in batch norms and rrelu; in instance norms.
_NAMES: Final = ("train", "training", "use_input_stats")


def training_argument(node: Node) -> str | None:
    """Name of the argument that switches a call between training and evaluation, or None.

    Example:
        >>> graph = torch.fx.Graph()
        >>> x = graph.placeholder("x")
        >>> training_argument(graph.call_function(torch.ops.aten.dropout.default, (x, 0.5, False)))
        'train'
        >>> training_argument(graph.call_function(torch.ops.aten.relu.default, (x,)))
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    names = {argument.name for argument in node.target._schema.arguments
             if str(argument.type) in ("bool", "Optional[bool]")}
    return next((name for name in _NAMES if name in names), None)


def is_in_training_mode(node: Node) -> bool:
    """Whether a call's training argument is on."""
    name = training_argument(node)
    return name is not None and bool(argument(node, name, default=False))


def depends_on_mode(node: Node) -> bool:
    """Whether a call in evaluation mode would compute something else in training mode."""
    return training_argument(node) is not None and not is_in_training_mode(node)


def set_training_mode(node: Node, on: bool) -> None:
    """Switch a call to training or evaluation mode, in place."""
    name = training_argument(node)
    if name is not None:
        set_argument(node, name, on)
