"""Replace batch norms by multiplications and additions, which every runtime supports."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from edgewright.graph import argument, finalize_graph, ops, shape_of, stored_tensors
from edgewright.program import Program, fold_batch_norm, norm_as_affine

aten = torch.ops.aten


def remove_batch_norms(program: Program) -> Program:
    """Fold batch norms into the preceding layers, or replace them by elementwise operators.

    Norms that cannot be folded become a multiplication and an addition per channel.
    """
    result = fold_batch_norm(program)
    tensors = stored_tensors(result.graph_module)
    for node in list(result.calls()):
        if node.target is not ops.BATCH_NORM or argument(node, "running_mean") is None:
            continue
        gain, offset = norm_as_affine(node, tensors)
        shape = (-1, *[1] * (len(shape_of(node)) - 2))
        with result.graph.inserting_before(node):
            read = [_register_buffer(result.graph_module, f"{node.name}_{name}",
                                     value.reshape(shape))
                    for name, value in (("gain", gain), ("offset", offset))]
            product = result.graph.call_function(aten.mul.Tensor, (node.args[0], read[0]))
            total = result.graph.call_function(aten.add.Tensor, (product, read[1]))
        node.replace_all_uses_with(total)
        result.graph.erase_node(node)
    finalize_graph(result.graph_module)
    return result


def _register_buffer(module: GraphModule, name: str, value: torch.Tensor) -> Node:
    module.register_buffer(name, value)
    return module.graph.get_attr(name)
