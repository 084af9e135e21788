"""Store weights as integers that LiteRT's converter wrote in floating point.

The converter fuses a layer into an integer kernel if its input and result are quantized, and
dequantizes the weights of all other layers. This module replaces them by their integers and an
operator that dequantizes them, which XNNPACK's delegate runs once when it loads the file.
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
_ALIGNMENT: Final = 16  # of constants in the file, in bytes

_Key = tuple[tuple[int, ...], bytes]


class LiteRtWeight(NamedTuple):
    """A weight in the layout of a file, and the dimension of its scales."""

    integers: NDArray[np.int8]
    scales: NDArray[np.float32]
    axis: int

    @property
    def real(self) -> NDArray[np.float32]:
        """The dequantized weight, as the program computes it."""
        shape = [1] * self.integers.ndim
        shape[self.axis] = -1
        return self.integers.astype(np.float32) * self.scales.reshape(shape)


def find_stored_weights(module: GraphModule) -> tuple[LiteRtWeight, ...]:
    """The weights of a quantized program in every layout that a file can use."""
    state = module.state_dict()
    found = ((state[str(node.args[0].target)], state[str(channel_grid(node).scales.target)])
             for node in module.graph.nodes
             if is_constant(node) and channel_grid(node).dtype is torch.int8)
    return tuple(weight for integers, scales in found for weight in _layouts(integers, scales))


def _layouts(integers: Tensor, scales: Tensor) -> Iterator[LiteRtWeight]:
    weight, steps = integers.numpy(), scales.float().numpy()
    if weight.ndim != 4:
        yield LiteRtWeight(weight, steps, 0)
        return
    yield LiteRtWeight(np.ascontiguousarray(weight.transpose(0, 2, 3, 1)), steps, 0)
    if weight.shape[1] == 1:  # depthwise
        yield LiteRtWeight(np.ascontiguousarray(weight.transpose(1, 2, 3, 0)), steps, 3)


def store_integers(content: bytes, weights: tuple[LiteRtWeight, ...]) -> bytes:
    """Replace constants of a ``.tflite`` file that equal a dequantized weight by its integers.

    Returns:
        The new content, or ``content`` itself if there are no such constants.
    """
    from ai_edge_litert.tools import flatbuffer_utils  # noqa: PLC0415

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    known: dict[_Key | None, LiteRtWeight] = {
        _as_constant(weight.real): weight for weight in weights}
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
    """The shape and the bytes of a constant; None for other tensors."""
    data = model.buffers[tensor.buffer].data
    return None if data is None else (tuple(tensor.shape), bytes(data))


def _dequantize(model: Any, graph: Any, tensor: Any, weight: LiteRtWeight) -> None:
    """Insert an operator at the start of the graph that computes a tensor from its integers."""
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
    """Index of the per-channel dequantize operator, which is added if the model has none."""
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
    """A constant with the alignment that the schema requires; the package's class omits it."""

    data: NDArray[np.uint8] | None

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """Write the constant; return its offset."""
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
