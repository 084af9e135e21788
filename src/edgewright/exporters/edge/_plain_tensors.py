"""Stored tensors under plain names and in the plain order, as partitioners expect them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from edgewright.graph import drop_unused_tensors, stored_tensors


def store_plainly(module: GraphModule) -> None:
    """Number the tensors of a graph, and lay each out row by row, in place.

    A converter derives names of its own from theirs, and loses them where one begins with a digit
    or holds a dot; and it takes weights with channels last for other weights.
    """
    tensors, names = stored_tensors(module), dict[int, str]()
    for node in module.graph.find_nodes(op="get_attr"):
        tensor = tensors[str(node.target)]
        if id(tensor) not in names:
            names[id(tensor)] = f"stored_{len(names)}"
            _register(module, names[id(tensor)], tensor)
        node.target = names[id(tensor)]
    drop_unused_tensors(module)
    module.delete_all_unused_submodules()


def _register(module: GraphModule, name: str, tensor: Tensor) -> None:
    plain = tensor.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(name, nn.Parameter(plain, requires_grad=False))
    else:
        module.register_buffer(name, plain)
