"""Decompose activations that partitioners support for images only."""

from __future__ import annotations

from typing import Final

import torch
from torch.fx import GraphModule

from edgewright.graph import argument, shape_of

aten = torch.ops.aten
_IMAGE: Final = 4  # dimensions


def decompose_prelu(module: GraphModule) -> None:
    """Replace a PReLU of anything but images by relu(x) - weight * relu(-x), in place."""
    for node in list(module.graph.nodes):
        if node.target is not aten.prelu.default or len(shape_of(node)) == _IMAGE:
            continue
        source, weight = node.args[0], argument(node, "weight")
        by_channel = [1, -1, *[1] * (len(shape_of(node)) - 2)] if len(shape_of(node)) > 1 else [-1]
        call = module.graph.call_function
        with module.graph.inserting_before(node):
            slopes = call(aten.reshape.default, (weight, by_channel))
            below = call(aten.relu.default, (call(aten.neg.default, (source,)),))
            result = call(aten.sub.Tensor, (call(aten.relu.default, (source,)),
                                            call(aten.mul.Tensor, (below, slopes))))
        node.replace_all_uses_with(result)
        module.graph.erase_node(node)
