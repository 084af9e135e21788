"""Regions that torch wraps into a call of their own, put back where they are called."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node


def inline_plain_regions(module: GraphModule) -> None:
    """Inline every region that only switches automatic precision *off*, in place.

    A program computes in the types its graph says, so that such a region is its content.
    """
    for node in list(module.graph.nodes):
        if node.target is torch.ops.higher_order.wrap_with_autocast and not node.args[2]:
            _inline(module, node)


def _inline(module: GraphModule, call: Node) -> None:
    """Replace a call of (device, dtype, enabled, cache, region, *operands) by the region."""
    attribute: Any = call.args[4]
    region = module.get_submodule(str(attribute.target))
    assert isinstance(region, GraphModule)  # noqa: S101  (what the operator takes)
    placeholders = [node for node in region.graph.nodes if node.op == "placeholder"]
    known: dict[Node, Any] = dict(zip(placeholders, call.args[5:], strict=True))
    with module.graph.inserting_before(call):
        results: Any = module.graph.graph_copy(region.graph, known)
    for user in list(call.users):
        if user.target is operator.getitem and isinstance(results, tuple | list):
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            module.graph.erase_node(user)
    if call.users:
        call.replace_all_uses_with(results)
    module.graph.erase_node(call)
    if not attribute.users:
        module.graph.erase_node(attribute)
