"""Reading and adding the constants of an ONNX graph."""

from __future__ import annotations

from typing import Any, Final

import onnx_ir as ir
from numpy.typing import NDArray

_OF_INTEGERS: Final = frozenset({"Cast", "Sub", "Mul", "Transpose"})


def array_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The numbers of a constant; None for what is computed."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is stored, or computed from nothing but stored integers and their scales."""
    if value is None:
        return False
    producer = value.producer()
    if producer is None or producer.op_type not in _OF_INTEGERS:
        return array_of(value) is not None
    return all(is_constant(source) for source in producer.inputs if source is not None)


def add_constant(graph: ir.Graph, tensor: ir.TensorProtocol, like: str) -> ir.Value:
    """Store a tensor in the graph, under a free name that begins with ``like``."""
    name, count = like, 0
    while name in graph.initializers:
        name, count = f"{like}_{count}", count + 1
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype),
                     shape=ir.Shape(tensor.numpy().shape))
    graph.register_initializer(value)
    return value


def drop_unread(graph: ir.Graph) -> None:
    """Remove the nodes and constants that nothing reads."""
    for node in reversed(list(graph)):
        if not any(out.uses() or out.is_graph_output() for out in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
