"""Small rewrites that make a captured graph easier to read, cut and run."""

from __future__ import annotations

import sys
from typing import Final

import torch
from torch.fx import GraphModule, Node

from edgewright.graph._inline import inline_wrapped_regions
from edgewright.graph._mutated_memory import find_mutated_memory
from edgewright.graph._nodes import argument
from edgewright.graph._shapes import refresh_shapes, shape_of, tensor_of
from edgewright.graph._stacked_recurrences import split_stacked_recurrences

aten = torch.ops.aten
_COPY: Final = aten.lift_fresh_copy.default  # of a tensor literal in the user's code
_IDENTITIES: Final = frozenset({aten.alias.default, aten.detach_.default, _COPY})


def simplify_graph(module: GraphModule) -> None:
    """Remove no-ops, split stacked layers, and read batch sizes where they are used, in place."""
    inline_wrapped_regions(module)
    split_stacked_recurrences(module)
    written = find_mutated_memory(module)
    for node in list(module.graph.nodes):
        if node.target is _COPY and node in written:
            node.target = aten.clone.default
        elif (node.target in _IDENTITIES or _is_whole_slice(node)
                or _is_detached_constant(node)):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif node.target is aten.sym_size.int:
            _localize_batch_size(module, node)
        elif node.target in (aten.squeeze.default, aten.squeeze_.default):
            _make_squeeze_dims_explicit(node)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    drop_unused_tensors(module)
    module.recompile()


def finalize_graph(module: GraphModule) -> None:
    """Finish a rewrite, in place: remove what nothing reads, recompile, recompute shapes."""
    module.graph.eliminate_dead_code()
    drop_unused_tensors(module)
    module.recompile()
    refresh_shapes(module)


def drop_unused_tensors(module: GraphModule) -> None:
    """Delete the parameters and buffers that no node reads, for example `num_batches_tracked`."""
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    names += [name for name, _ in module.named_buffers(remove_duplicate=False)]
    for name in names:
        if name not in used:
            owner, _, leaf = name.rpartition(".")
            delattr(module.get_submodule(owner), leaf)


def _is_detached_constant(node: Node) -> bool:
    """Whether a call detaches a stored tensor, as ``torch.tensor(number)`` does."""
    return (node.target is aten.detach_.default and isinstance(node.args[0], Node)
            and node.args[0].op == "get_attr")


def _is_whole_slice(node: Node) -> bool:
    """Whether a call is ``x[:]`` along some dimension."""
    if node.target is not aten.slice.Tensor:
        return False
    start, end, step = (argument(node, name) for name in ("start", "end", "step"))
    return (start, step) in ((None, 1), (0, 1)) and end in (None, sys.maxsize)


def _make_squeeze_dims_explicit(node: Node) -> None:
    """List the squeezed dimensions, so that a batch or channel dimension of size 1 stays."""
    source = node.all_input_nodes[0]
    node.target = aten.squeeze.dims
    node.args = (source, [dim for dim, size in enumerate(shape_of(source, 2)) if size == 1])


def _localize_batch_size(module: GraphModule, size: Node) -> None:
    """Read a batch size from the input of each call that uses it.

    Otherwise a size that is read early would be live across the graph and prevent cutting it.
    """
    symbol = size.meta.get("val")
    if not isinstance(symbol, torch.SymInt):
        return
    for user in list(size.users):
        source = user.args[0] if user.args else None
        if not isinstance(source, Node) or source is size.args[0]:
            continue
        tensor = tensor_of(source)
        if tensor is None or not tensor.ndim or not isinstance(tensor.shape[0], torch.SymInt):
            continue
        if tensor.shape[0].node.expr == symbol.node.expr:
            with module.graph.inserting_before(user):
                local = module.graph.call_function(aten.sym_size.int, (source, 0))
            local.meta["val"] = tensor.shape[0]
            user.replace_input_with(size, local)
