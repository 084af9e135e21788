"""Shapes of graph nodes: read for a given batch size, and recomputed after a rewrite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._dispatch.python import enable_python_dispatcher
from torch._guards import detect_fake_mode
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.graph._sizes import concrete_size
from edgewright.graph._whole_recurrences import keep_recurrent_layers_whole


def tensor_of(node: Node) -> Tensor | None:
    """The fake tensor a node computes, or None if it computes something else."""
    value = node.meta.get("val")
    return value if isinstance(value, Tensor) else None


def shape_of(node: Node, batch: int = 1) -> tuple[int, ...]:
    """Shape of the tensor a node computes, for the given batch size."""
    value = tensor_of(node)
    if value is None:
        raise TypeError(f"{node.name} does not compute a tensor")
    return tuple(concrete_size(size, batch) for size in value.shape)


def batch_dim_of(node: Node) -> int | None:
    """The dimension whose size depends on the batch size; None if there is none, or several."""
    one, two = shape_of(node, 1), shape_of(node, 2)
    dims = [dim for dim, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    return dims[0] if len(dims) == 1 else None


def bytes_of(node: Node) -> int:
    """Bytes of all tensors a node computes, for one sample."""
    total = 0
    for leaf in pytree.tree_leaves(node.meta.get("val")):
        if isinstance(leaf, Tensor):
            count = 1
            for size in leaf.shape:
                count *= concrete_size(size)
            total += count * leaf.element_size()
    return total


class _ShapeInterpreter(Interpreter):
    """Runs the graph on fake tensors and stores each node's result in its ``val``."""

    def __init__(self, module: GraphModule, mode: FakeTensorMode) -> None:
        super().__init__(module)
        self._mode = mode

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.op == "get_attr" and isinstance(value, Tensor):
            value = self._mode.from_tensor(value, static_shapes=True)
        n.meta["val"] = value
        return value


def refresh_shapes(module: GraphModule) -> None:
    """Recompute every node's ``val`` from those of the placeholders, in place."""
    placeholders = [n.meta["val"] for n in module.graph.nodes if n.op == "placeholder"]
    mode = detect_fake_mode(placeholders)
    if mode is None:
        raise TypeError("the graph's inputs have no shapes; capture it with torch.export")
    with mode, enable_python_dispatcher(), torch.no_grad(), keep_recurrent_layers_whole():
        _ShapeInterpreter(module, mode).run(*placeholders, enable_io_processing=False)
