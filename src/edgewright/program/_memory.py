"""Peak activation memory: which tensors are alive at once, in graph order."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree

from edgewright.graph import (
    bytes_of,
    is_dequantization,
    is_quantization,
    op_name,
    ops,
    shape_of,
    tensor_of,
)

aten = torch.ops.aten

# Views, and operators that a runtime computes in place or not at all.
_ALIASES: Final = ops.names(
    ops.RESHAPES | ops.UNFLATTENINGS | ops.PERMUTATIONS | ops.SLICES | ops.SPLITS | ops.DROPOUTS
) | {"t", "expand", "alias", "detach", "contiguous"}


def peak_activation_bytes(graph: Graph) -> int:
    """Largest total size of inputs and activations alive at once, for one sample.

    A view shares its source's storage. So does a dequantized tensor, because int8 runtimes do not
    materialize it. A tensor that is only quantized counts with its quantized width.
    """
    moments = find_live_tensors(graph)
    sizes = {node: stored_bytes(node) for nodes in moments for node in nodes}
    return max((sum(sizes[node] for node in nodes) for nodes in moments), default=0)


def find_live_tensors(graph: Graph) -> list[tuple[Node, ...]]:
    """The nodes whose results are in memory together, at each point before one is freed."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    storage: dict[Node, Node] = {}  # the node whose storage a node's result is in
    last_use: dict[Node, int] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            continue
        owner = _storage_owner(node)
        shares = owner is not None and owner.op != "get_attr"
        storage[node] = storage[owner] if shares and owner is not None else node
        uses = [order[user] for user in node.users] or [order[node]]
        last_use[storage[node]] = max(last_use.get(storage[node], 0), *uses)
    return _sweep(graph, storage, last_use)


def _sweep(graph: Graph, storage: dict[Node, Node],
           last_use: dict[Node, int]) -> list[tuple[Node, ...]]:
    alive: dict[Node, None] = {}
    moments = []
    ending: dict[int, list[Node]] = {}
    for index, node in enumerate(graph.nodes):
        is_own = node in storage and storage[node] is node
        if is_own and node.op in ("placeholder", "call_function") and not _is_constant(node):
            alive[node] = None
            ending.setdefault(last_use[node], []).append(node)
        if index in ending:
            moments.append(tuple(alive))
            for freed in ending.pop(index):
                del alive[freed]
    return moments


def stored_bytes(node: Node) -> int:
    """Bytes of a node's result for one sample; one byte per element if it is only quantized."""
    value = tensor_of(node)
    if value is not None and value.is_floating_point() and _is_only_quantized(node):
        return math.prod(shape_of(node))
    return bytes_of(node)


def _storage_owner(node: Node) -> Node | None:
    """The node whose storage this one shares, if any."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], Node):
        return None
    if is_quantization(node) or (node.target == aten.relu.default and _is_only_quantized(node)):
        return node.args[0]
    if not isinstance(node.target, torch._ops.OpOverload):
        is_item = all(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(node.meta.get("val")))
        return node.args[0] if is_item else None
    returned = node.target._schema.returns[:1]
    in_place = any(value.alias_info is not None and value.alias_info.is_write
                   for value in returned)
    return node.args[0] if in_place or op_name(node) in _ALIASES else None


def _is_only_quantized(node: Node) -> bool:
    users = list(node.users)
    if len(users) == 1 and users[0].target == aten.relu.default:
        users = list(users[0].users)
    return bool(users) and all(is_quantization(user) and not is_dequantization(user)
                               for user in users)


def _is_constant(node: Node) -> bool:
    """Whether a call reads only stored tensors: export folds its result into the file."""
    return node.op == "call_function" and bool(node.all_input_nodes) \
        and all(arg.op == "get_attr" for arg in node.all_input_nodes)
