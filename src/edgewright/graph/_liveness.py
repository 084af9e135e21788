"""Which nodes of a graph are still needed, taking in-place writes into account."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable
from typing import Any, Final

import torch
from torch.fx import Graph, Node

from edgewright.graph._nodes import op_name
from edgewright.graph._shapes import tensor_of

# Operators that may return their input itself although their schema does not declare it.
PASS_THROUGH: Final = frozenset("""
    dropout feature_dropout alpha_dropout feature_alpha_dropout contiguous to type_as flatten
    reshape reshape_as expand_as view_as
""".split())

Bypass = tuple[Node, Node]


def find_live_nodes(graph: Graph, bypass: Bypass | None = None) -> set[Node]:
    """The nodes the outputs depend on, and those that write into memory that such a node reads.

    Args:
        graph: Any graph.
        bypass: (call, source): treat ``call`` as if it just returned ``source``.
    """
    writers = [node for node in graph.nodes
               if mutates_in_place(node) and (bypass is None or node != bypass[0])]
    found: set[Node] = set()
    pending = [graph.output_node()]
    while pending:
        found |= ancestors(pending, bypass=bypass)
        pending = [node for node in writers if node not in found and alias_root(node) in found]
    return found


def input_dependencies(start: Node, bypass: Bypass | None = None) -> set[Node]:
    """The graph inputs whose values, and not only their sizes, ``start`` depends on."""
    return {node for node in ancestors([start], bypass=bypass, by_value=True)
            if node.op == "placeholder"}


def mutates_in_place(node: Node) -> bool:
    """Whether a call changes its first argument in place."""
    return isinstance(node.target, torch._ops.OpOverload) and bool(node.target._schema.is_mutable)


def alias_root(node: Node) -> Node:
    """The node whose memory a node's result may alias; the node itself if it allocates its own."""
    while _may_alias(node) and node.args and isinstance(node.args[0], Node):
        node = node.args[0]
    return node


def erase_nodes(graph: Graph, gone: Collection[Node]) -> None:
    """Erase nodes and the assertions about them, users before their inputs."""
    doomed = set(gone)
    for node in graph.nodes:
        if _is_unused(node) and not doomed.isdisjoint(node.all_input_nodes):
            doomed.add(node)
    for node in reversed(list(graph.nodes)):
        if node in doomed:
            graph.erase_node(node)


def _is_unused(node: Node) -> bool:
    """Whether nothing reads a call's result, as with an assertion about its input."""
    return node.op == "call_function" and not node.users


def ancestors(nodes: Iterable[Node], *, stop: Collection[Node] = (), bypass: Bypass | None = None,
              by_value: bool = False) -> set[Node]:
    """Nodes and everything they are computed from, including stored tensors and inputs.

    Args:
        nodes: The starting nodes; they are part of the result.
        stop: Nodes whose inputs are not followed; they are part of the result themselves.
        bypass: (call, source): treat ``call`` as if it just returned ``source``.
        by_value: Do not follow sizes to the tensors they are read from.

    Example:
        >>> graph = Graph()
        >>> x = graph.placeholder("x")
        >>> y = graph.call_function(torch.relu, (x,))
        >>> z = graph.call_function(torch.neg, (y,))
        >>> ancestors([z]) == {x, y, z}, ancestors([z], stop=[y]) == {y, z}
        (True, True)
    """
    found = set(nodes)
    pending = list(found)
    while pending:
        node = pending.pop()
        if node in stop or (by_value and is_number(node)):
            continue
        sources = [bypass[1]] if bypass is not None and node is bypass[0] else node.all_input_nodes
        fresh = [source for source in sources if source not in found]
        found.update(fresh)
        pending.extend(fresh)
    return found


def find_input_independent_nodes(graph: Graph) -> set[Node]:
    """The nodes computed from stored tensors alone, and the ``get_attr`` nodes themselves."""
    found: set[Node] = set()
    for node in graph.nodes:
        sources = node.all_input_nodes
        if node.op == "get_attr" or (node.op == "call_function" and sources
                                     and all(source in found for source in sources)):
            found.add(node)
    return found


def is_number(node: Node) -> bool:
    """Whether a node computes a number, such as a size, and not a tensor."""
    value: Any = node.meta.get("val")
    return tensor_of(node) is None and isinstance(
        value, int | float | torch.SymInt | torch.SymFloat | torch.SymBool)


def _may_alias(node: Node) -> bool:
    if node.op != "call_function":
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.target is operator.getitem
    returns = node.target._schema.returns
    is_view = bool(returns) and returns[0].alias_info is not None
    return is_view or op_name(node) in PASS_THROUGH
