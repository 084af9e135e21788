"""Inlining of the regions that torch wraps into higher-order calls."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node


def inline_wrapped_regions(module: GraphModule) -> None:
    """Inline, in place, every region that *disables* autocast, or that enables or disables grad.

    A program computes in the dtypes of its graph, so a region without autocast is equivalent to
    its content, and a ``no_grad`` region is its content with every result detached.
    """
    while True:
        found = [node for node in module.graph.nodes if _is_inlinable(node)]
        for node in found:
            _inline(module, node)
        if not found:
            return


def _is_inlinable(node: Node) -> bool:
    name = getattr(node.target, "__name__", "")
    return name == "wrap_with_set_grad_enabled" or (name == "wrap_with_autocast"
                                                    and not node.args[2])


def _inline(module: GraphModule, call: Node) -> None:
    """Replace a call with arguments (*settings, region, *operands) by the region's content."""
    is_gradient = len(call.args) > 1 and isinstance(call.args[0], bool)
    index = 1 if is_gradient else 4
    attribute: Any = call.args[index]
    region = module.get_submodule(str(attribute.target))
    assert isinstance(region, GraphModule)  # noqa: S101  (what the operator takes)
    placeholders = [node for node in region.graph.nodes if node.op == "placeholder"]
    known: dict[Node, Any] = dict(zip(placeholders, call.args[index + 1:], strict=True))
    with module.graph.inserting_before(call):
        results: Any = module.graph.graph_copy(region.graph, known)
        if is_gradient and not call.args[0]:
            results = torch.fx.node.map_arg(results, lambda node: _detach(module, node))
    for user in list(call.users):
        if user.target is operator.getitem and isinstance(results, tuple | list):
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            module.graph.erase_node(user)
    if call.users:
        call.replace_all_uses_with(results)
    module.graph.erase_node(call)
    if not attribute.users:
        module.graph.erase_node(attribute)


def _detach(module: GraphModule, node: Node) -> Node:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return node
    detached = module.graph.call_function(torch.ops.aten.detach.default, (node,))
    detached.meta["val"] = value
    return detached
