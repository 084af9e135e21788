"""Store tensors with simple names and contiguous memory, as partitioners expect."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from edgewright.graph import drop_unused_tensors, stored_tensors


def normalize_stored_tensors(module: GraphModule) -> None:
    """Rename the tensors of a graph by number and make them contiguous, in place.

    A converter derives names from these names, and loses tensors whose name starts with a digit or
    contains a dot; it also misreads weights in channels-last memory format.
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
