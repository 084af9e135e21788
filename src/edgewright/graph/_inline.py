"""Inlining of the regions that torch wraps into higher-order calls, branches included."""

from __future__ import annotations

import operator
from operator import attrgetter
from typing import Any, Final

import torch
from torch.fx import GraphModule, Node

from edgewright.errors import ModelError
from edgewright.graph._nodes import user_location
from edgewright.graph._route import ROUTE

aten = torch.ops.aten
_CONDITION: Final = torch.ops.higher_order.cond


def inline_wrapped_regions(module: GraphModule) -> None:
    """Inline, in place, every region that is equivalent to calls in the graph itself.

    A program computes in the dtypes of its graph, so a region without autocast is equivalent to
    its content, and a ``no_grad`` region is its content with every result detached. Both branches
    of a condition (`torch.cond`) become calls of the graph, and a `ROUTE` selects each result.

    Raises:
        ModelError: A condition depends on sizes, not on the values of a tensor.
    """
    while True:
        found = [node for node in module.graph.nodes if _is_inlinable(node)]
        for node in found:
            if node.target is _CONDITION:
                _inline_condition(module, node)
            else:
                _inline(module, node)
        if not found:
            return


def _is_inlinable(node: Node) -> bool:
    name = getattr(node.target, "__name__", "")
    return (node.target is _CONDITION or name == "wrap_with_set_grad_enabled"
            or (name == "wrap_with_autocast" and not node.args[2]))


def _inline(module: GraphModule, call: Node) -> None:
    """Replace a call with arguments (*settings, region, *operands) by the region's content."""
    is_gradient = len(call.args) > 1 and isinstance(call.args[0], bool)
    index = 1 if is_gradient else 4
    attribute: Any = call.args[index]
    with module.graph.inserting_before(call):
        results = _copy_region(module, attribute, call.args[index + 1:])
        if is_gradient and not call.args[0]:
            results = torch.fx.node.map_arg(results, lambda node: _detach(module, node))
    _replace(module, call, results)
    _erase_unused(module, attribute)


def _inline_condition(module: GraphModule, call: Node) -> None:
    """Replace ``cond(predicate, true_graph, false_graph, operands)`` by both branches."""
    predicate, *graphs, operands = call.args
    if not isinstance(predicate, Node) or not isinstance(predicate.meta.get("val"), torch.Tensor):
        raise ModelError(f"torch.cond{user_location(call)} depends on a size, not on the values of "
                         "a tensor; branch on values, or fix the size")
    with module.graph.inserting_before(call):
        branches = [_as_tuple(_copy_region(module, graph, operands))
                    for graph in reversed(graphs)]  # as a bool: false is 0, true is 1
        index = _insert(module, aten.to.dtype, (
            _insert(module, aten.reshape.default, (predicate, [])), torch.int64))
        results = tuple(_insert(module, ROUTE, (index, list(outputs)))
                        for outputs in zip(*branches, strict=True))
    is_single = isinstance(call.meta.get("val"), torch.Tensor)
    _replace(module, call, results[0] if is_single else results)
    for graph in graphs:
        _erase_unused(module, graph)


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return tuple(results) if isinstance(results, tuple | list) else (results,)


def _insert(module: GraphModule, target: Any, args: tuple[Any, ...]) -> Node:
    """A new call, with the fake tensor that it computes."""
    node = module.graph.call_function(target, args)
    node.meta["val"] = target(*torch.fx.node.map_arg(args, lambda source: source.meta["val"]))
    return node


def _copy_region(module: GraphModule, attribute: Any, operands: Any) -> Any:
    """Copy a region's calls to the insertion point, and its own tensors to the module."""
    region = module.get_submodule(str(attribute.target))
    assert isinstance(region, GraphModule)  # noqa: S101  (what higher-order operators take)
    placeholders = [node for node in region.graph.nodes if node.op == "placeholder"]
    known: dict[Node, Any] = dict(zip(placeholders, operands, strict=True))
    results = module.graph.graph_copy(region.graph, known)
    for node, twin in known.items():
        if node.op == "get_attr":
            twin.target = f"{attribute.target}.{node.target}"
            value = attrgetter(twin.target)(module)
            if isinstance(value, torch.Tensor):
                twin.target = twin.target.replace(".", "_")
                module.register_buffer(twin.target, value)
    return results


def _replace(module: GraphModule, call: Node, results: Any) -> None:
    """Replace a call by its results, and remove it."""
    for user in list(call.users):
        if user.target is operator.getitem and isinstance(results, tuple | list):
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            module.graph.erase_node(user)
    if call.users:
        call.replace_all_uses_with(results)
    module.graph.erase_node(call)


def _erase_unused(module: GraphModule, attribute: Any) -> None:
    if not attribute.users:
        module.graph.erase_node(attribute)


def _detach(module: GraphModule, node: Node) -> Node:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return node
    detached = module.graph.call_function(torch.ops.aten.detach.default, (node,))
    detached.meta["val"] = value
    return detached
