"""Splitting stacked recurrent layers, so that each can have a width of its own."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from edgewright.graph import ops
from edgewright.graph._nodes import argument, calls
from edgewright.graph._recurrence import RecurrentLayer, read_recurrent_layer
from edgewright.graph._shapes import refresh_shapes

aten = torch.ops.aten


def split_stacked_recurrences(module: GraphModule) -> None:
    """Split every call of several stacked recurrent layers into one call per layer, in place.

    Between them stands the dropout that the call has inside. As in torch's own kernel, time is the
    first dimension there, so that training draws the same random numbers. LSTMs with projections
    are left as they are.
    """
    stacked = [node for node in calls(module.graph) if node.target in ops.RECURRENT_LAYERS
               and argument(node, "num_layers") > 1
               and not read_recurrent_layer(node).is_projected]
    for node in stacked:
        with module.graph.inserting_before(node):
            _split(node)
        for item in list(node.users):
            module.graph.erase_node(item)
        module.graph.erase_node(node)  # eliminate_dead_code leaves it: it might draw random numbers
    if stacked:
        refresh_shapes(module)


def _split(node: Node) -> None:
    """Replace the results of a call by those of a chain of calls with one layer each."""
    stack = read_recurrent_layer(node)
    dropout = float(argument(node, "dropout"))
    source = _transpose(node, stack.source) if stack.batch_first else stack.source
    finals: list[list[Node]] = [[] for _ in stack.states]
    for number in range(stack.layers):
        if number and dropout:
            source = _call(node, aten.dropout.default, source, dropout, False)
        layer = _call(node, node.target, *_layer_arguments(node, stack, number, source),
                      name=f"{node.name}_l{number}")
        source = _call(node, operator.getitem, layer, 0)
        for place, parts in enumerate(finals):
            parts.append(_call(node, operator.getitem, layer, place + 1))
    if stack.batch_first:
        source = _transpose(node, source)
    for item in list(node.users):
        index = item.args[1]
        if index == 0:
            item.replace_all_uses_with(source)
        else:
            _replace_states(item, finals[int(index) - 1])  # type: ignore[arg-type]


def _layer_arguments(node: Node, stack: RecurrentLayer, number: int, source: Node) -> list[Any]:
    """The arguments of one layer's call, with time as the first dimension."""
    directions = stack.directions_of(number)
    states = [_part(node, state, number * len(directions), len(directions))
              for state in stack.states]
    params = [tensor for direction in directions for tensor in (
        direction.input_weight, direction.hidden_weight, *direction.biases)]
    return [source, states if isinstance(argument(node, "hx"), list | tuple) else states[0], params,
            argument(node, "has_biases"), 1, 0.0, argument(node, "train"),
            argument(node, "bidirectional"), False]


def _part(node: Node, state: Node, first: int, count: int) -> Node:
    """The initial state of some layers: a part of the stack's, or zeros of their own."""
    if state.target is aten.zeros.default:
        _, *sizes = argument(state, "size")
        zeros = _call(node, aten.zeros.default, [count, *sizes])
        zeros.kwargs = state.kwargs
        return zeros
    return _call(node, aten.slice.Tensor, state, 0, first, first + count)


def _replace_states(item: Node, parts: Sequence[Node]) -> None:
    """Let the readers of a stack's last states read those of its layers."""
    directions = argument(item.args[0], "bidirectional") + 1  # type: ignore[arg-type]
    for user in list(item.users):
        index = argument(user, "index")
        if user.target is aten.select.int and argument(user, "dim") == 0 and type(index) is int:
            place = index % (len(parts) * directions)
            user.args = (parts[place // directions], 0, place % directions)
    if item.users:
        item.replace_all_uses_with(_call(item, aten.cat.default, list(parts)))


def _transpose(node: Node, source: Node) -> Node:
    return _call(node, aten.transpose.int, source, 0, 1)


def _call(place: Node, target: Any, *args: Any, name: str | None = None) -> Node:
    """Insert a call, with the module and the line that ``place`` comes from."""
    made = place.graph.create_node("call_function", target, args, name=name)
    made.meta = {key: value for key, value in place.meta.items() if key != "val"}
    return made
