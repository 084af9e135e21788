"""Read, add and remove constants of an ONNX graph."""

from __future__ import annotations

from typing import Any, Final

import onnx_ir as ir
from numpy.typing import NDArray

_INTEGER_OPERATORS: Final = frozenset({"Cast", "Sub", "Mul", "Transpose"})


def constant_array(value: ir.Value | None) -> NDArray[Any] | None:
    """The array of a constant; None for computed values."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is a constant, or a dequantization computed only from constants."""
    if value is None:
        return False
    producer = value.producer()
    if producer is None or producer.op_type not in _INTEGER_OPERATORS:
        return constant_array(value) is not None
    return all(is_constant(source) for source in producer.inputs if source is not None)


def add_constant(graph: ir.Graph, tensor: ir.TensorProtocol, like: str) -> ir.Value:
    """Add a tensor to the graph, with an unused name that starts with ``like``."""
    name, count = like, 0
    while name in graph.initializers:
        name, count = f"{like}_{count}", count + 1
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype),
                     shape=ir.Shape(tensor.numpy().shape))
    graph.register_initializer(value)
    return value


def remove_unused(graph: ir.Graph) -> None:
    """Remove nodes and constants without readers."""
    for node in reversed(list(graph)):
        if not any(out.uses() or out.is_graph_output() for out in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
