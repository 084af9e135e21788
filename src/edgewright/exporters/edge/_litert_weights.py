"""Weights that LiteRT's converter wrote in floating point go back to integers.

It fuses a layer into a kernel of integers where input and result are quantised, and computes the
weights of all others while converting. Here the file stores their integers and an operator that
dequantises them: XNNPACK's delegate runs it once, when it loads the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule

from edgewright.exporters.edge._edge_graph import is_constant
from edgewright.graph import channel_grid

_PER_CHANNEL: Final = 5  # version of the operator
_ALIGNMENT: Final = 16  # of a constant's bytes in the file

_Key = tuple[tuple[int, ...], bytes]


class Stored(NamedTuple):
    """A weight as a file has it, and the dimension of its scales."""

    integers: NDArray[np.int8]
    scales: NDArray[np.float32]
    axis: int

    @property
    def real(self) -> NDArray[np.float32]:
        """The numbers they stand for, as a program computes them."""
        shape = [1] * self.integers.ndim
        shape[self.axis] = -1
        return self.integers.astype(np.float32) * self.scales.reshape(shape)


def stored_weights(module: GraphModule) -> tuple[Stored, ...]:
    """The weights of a quantised program in every order of dimensions that a file may have."""
    state = module.state_dict()
    found = ((state[str(node.args[0].target)], state[str(channel_grid(node).scales.target)])
             for node in module.graph.nodes
             if is_constant(node) and channel_grid(node).dtype is torch.int8)
    return tuple(weight for integers, scales in found for weight in _orders(integers, scales))


def _orders(integers: Tensor, scales: Tensor) -> Iterator[Stored]:
    weight, steps = integers.numpy(), scales.float().numpy()
    if weight.ndim != 4:
        yield Stored(weight, steps, 0)
        return
    yield Stored(np.ascontiguousarray(weight.transpose(0, 2, 3, 1)), steps, 0)
    if weight.shape[1] == 1:
        yield Stored(np.ascontiguousarray(weight.transpose(1, 2, 3, 0)), steps, 3)  # depthwise


def store_integers(content: bytes, weights: tuple[Stored, ...]) -> bytes:
    """Replace constants of a ``.tflite`` file that equal a weight by its integers.

    Returns:
        ``content`` itself where there is none.
    """
    from ai_edge_litert.tools import flatbuffer_utils  # noqa: PLC0415

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    known: dict[_Key | None, Stored] = {_as_constant(weight.real): weight for weight in weights}
    chosen = [(graph, tensor, known[key]) for graph in model.subgraphs
              for tensor in list(graph.tensors)
              if (key := _constant(model, tensor)) in known]
    if not chosen:
        return content
    for graph, tensor, weight in chosen:
        _dequantize(model, graph, tensor, weight)
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    read |= {metadata.buffer for metadata in model.metadata or ()}
    model.buffers = [_Buffer(np.asarray(buffer.data, np.uint8)
                             if index in read and buffer.data is not None else None)
                     for index, buffer in enumerate(model.buffers)]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _as_constant(array: NDArray[np.float32]) -> _Key:
    return array.shape, array.tobytes()


def _constant(model: Any, tensor: Any) -> _Key | None:
    """Shape and bytes of a constant; None for other tensors."""
    data = model.buffers[tensor.buffer].data
    return None if data is None else (tuple(tensor.shape), bytes(data))


def _dequantize(model: Any, graph: Any, tensor: Any, weight: Stored) -> None:
    """Let a new operator compute a tensor, before all others, from integers in its place."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

    index = graph.tensors.index(tensor)
    channels = len(weight.scales)
    grid = schema.QuantizationParametersT(
        scale=weight.scales.tolist(), zeroPoint=[0] * channels, quantizedDimension=weight.axis)
    graph.tensors.append(schema.TensorT(
        shape=list(tensor.shape), type=schema.TensorType.INT8, buffer=len(model.buffers),
        name=tensor.name + b"_integers", quantization=grid, hasRank=True))
    model.buffers.append(schema.BufferT(weight.integers.reshape(-1).view(np.uint8)))
    tensor.buffer = 0
    graph.operators.insert(0, schema.OperatorT(
        opcodeIndex=_operator(model), inputs=[len(graph.tensors) - 1], outputs=[index]))


def _operator(model: Any) -> int:
    """Index of the operator that dequantises by channel, which the model gets if it has none."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

    kind = schema.BuiltinOperator.DEQUANTIZE
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == kind and code.version >= _PER_CHANNEL:
            return index
    model.operatorCodes.append(schema.OperatorCodeT(
        deprecatedBuiltinCode=kind, builtinCode=kind, version=_PER_CHANNEL))
    return len(model.operatorCodes) - 1


@final
@dataclass(frozen=True)
class _Buffer:
    """A constant, aligned as the file's schema demands; the package's own class leaves that out."""

    data: NDArray[np.uint8] | None

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """Write itself; its place."""
        from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

        place = None if self.data is None else self._aligned(builder, self.data)
        schema.BufferStart(builder)
        if place is not None:
            schema.BufferAddData(builder, place)
        end: int = schema.BufferEnd(builder)
        return end

    @staticmethod
    def _aligned(builder: Any, data: NDArray[np.uint8]) -> Any:
        builder.StartVector(1, len(data), _ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head:builder.head + len(data)] = data.tobytes()
        return builder.EndVector()
