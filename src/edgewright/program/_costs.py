"""Costs of a program for one sample: multiply-accumulates, parameters, bytes, memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import torch
from torch.fx import Graph, GraphModule, Node

from edgewright.graph import (
    FLOAT_BITS,
    Shape,
    argument,
    base_name,
    bits_of,
    calls,
    concrete_size,
    count_macs,
    find_input_independent_nodes,
    has_macs,
    is_pointwise,
    is_quantization,
    op_name,
    ops,
    shape_of,
    stored_bits,
    tensor_of,
    weight_bits_of,
    weight_of,
)
from edgewright.program._graph_outputs import output_nodes
from edgewright.program._memory import peak_activation_bytes
from edgewright.program._route_regions import sum_longest_path

_RECURRENT: Final = ops.RECURRENT_LAYERS | ops.RECURRENT_CELLS
_COMPUTED_IN_FLOAT: Final = _RECURRENT | ops.VOLUME_CONVOLUTIONS | ops.TRANSPOSED_CONVOLUTIONS | {
    ops.ATTENTION, ops.BILINEAR, ops.EINSUM}


@dataclass(frozen=True)
class NodeCost:
    """Cost of one operator call, for one sample.

    Attributes:
        name: The node's name in the graph.
        op: The operator ("conv2d").
        weight: Name of the weight tensor it reads, or None.
        channels: Size of the output's channel dimension, the one its weight produces.
        macs: Multiply-accumulates.
        bits: Bit width that the engine computes it in: 8 if everything it multiplies is quantized,
            else 32. Attention is 32 because it multiplies the float result of its softmax;
            recurrent layers, transposed and 3-D convolutions are 32 because they have no integer
            kernels.
        weight_bits: Bits of its quantized weight; 32 in floating point. Without a weight, the bits
            of its activations.
        activation_bits: Bits of the activations it reads; 32 in floating point.
        weight_bytes: Bytes of the weight and bias it reads, as stored.
        traffic_bytes: Bytes of activations read and written, at their stored width, and of weights
            read.
    """

    name: str
    op: str
    weight: str | None
    channels: int
    macs: int
    bits: int
    weight_bits: int
    activation_bits: int
    weight_bytes: int
    traffic_bytes: int


@dataclass(frozen=True)
class Costs:
    """Cost of a program, for one sample.

    Attributes:
        layers: Every call with multiply-accumulates, in graph order.
        macs: Multiply-accumulates. Pooling, norms and element-wise arithmetic count as 0. Of a
            program that chooses its path by the input, those of all branches together.
        longest_path_macs: The multiply-accumulates of a sample that takes the most expensive branch
            of every route; equal to ``macs`` without routes. What samples need on average is
            measured, on the bundle.
        parameters: Number of elements in all tensors that the graph reads, except running
            statistics, scales and zero points.
        weight_bytes: Bytes of all stored tensors; an integer of fewer than 8 bits takes one byte.
        packed_bytes: The same with integers packed to their bits: an upper bound of their size in a
            bundle.
        peak_activation_bytes: Largest total of activations alive at once, in graph order.
        uncounted: Unknown operators, with the number of their calls; their MACs are *not* in
            ``macs``.
    """

    layers: tuple[NodeCost, ...]
    macs: int
    longest_path_macs: int
    parameters: int
    weight_bytes: int
    packed_bytes: int
    peak_activation_bytes: int
    uncounted: dict[str, int]

    @property
    def traffic_bytes(self) -> int:
        """Bytes read and written by the layers (all other calls are assumed to be fused)."""
        return sum(layer.traffic_bytes for layer in self.layers)

    def macs_by_bits(self) -> dict[int, int]:
        """Multiply-accumulates by the bit width they are computed in."""
        total: Counter[int] = Counter()
        for layer in self.layers:
            total[layer.bits] += layer.macs
        return dict(total)


def count_costs(module: GraphModule) -> Costs:
    """Count the costs of a program for one sample; see `Program.costs`."""
    graph = module.graph
    bits, fixed = stored_bits(graph), find_input_independent_nodes(graph)
    layers = tuple(_layer_cost(node, fixed) for node in calls(graph) if has_macs(node))
    tensors = {str(node.target): value for node in graph.nodes
               if node.op == "get_attr" and (value := tensor_of(node)) is not None}
    unknown = Counter(op_name(node) for node in calls(graph)
                      if not has_macs(node) and not _is_free(node))
    return Costs(
        layers=layers,
        macs=sum(layer.macs for layer in layers),
        longest_path_macs=sum_longest_path(graph, output_nodes(graph), macs_of),
        parameters=sum(math.prod(shape_of(node)) for node in parameter_nodes(graph)),
        weight_bytes=sum(math.prod(v.shape) * v.element_size() for v in tensors.values()),
        packed_bytes=sum(-(-v.numel() * bits.get(name, 8 * v.element_size()) // 8)
                         for name, v in tensors.items()),
        peak_activation_bytes=peak_activation_bytes(graph),
        uncounted=dict(unknown),
    )


def macs_of(node: Node) -> int:
    """Multiply-accumulates of a node, 0 if it has none."""
    return count_macs(node) if node.op == "call_function" and has_macs(node) else 0


def parameter_nodes(graph: Graph) -> list[Node]:
    """One node for every stored tensor that counts as parameters."""
    auxiliary = auxiliary_tensors(graph)
    nodes = {str(node.target): node for node in graph.nodes
             if node.op == "get_attr" and tensor_of(node) is not None}
    return [node for name, node in nodes.items() if name not in auxiliary]


def auxiliary_tensors(graph: Graph) -> set[str]:
    """Names of tensors that are not parameters: running statistics, scales and zero points."""
    grids = dict.fromkeys(ops.STORED_DEQUANTIZERS, ("scales", "zero_points"))
    names = {ops.BATCH_NORM: ("running_mean", "running_var"), **grids}
    return {str(arg.target) for node in calls(graph) for name in names.get(node.target, ())
            if isinstance(arg := argument(node, name), Node)}


def _layer_cost(node: Node, fixed: Collection[Node]) -> NodeCost:
    weight = weight_of(node)
    activations = [arg for arg in node.all_input_nodes if arg not in fixed]
    activation_bits = max((bits_of(arg) for arg in activations), default=FLOAT_BITS)
    weight_bits = activation_bits if weight is None else weight_bits_of(node)
    integers = max(activation_bits, weight_bits) <= 8 and node.target not in _COMPUTED_IN_FLOAT
    bits = 8 if integers else FLOAT_BITS
    stored = [_stored_source(arg) for arg in node.all_input_nodes if arg in fixed]
    weight_bytes = sum(math.prod(value.shape) * value.element_size()
                       for value in map(tensor_of, stored) if value is not None)
    shape = _first_shape(node)
    elements = sum(math.prod(_first_shape(arg)) for arg in [*activations, node])
    axis = len(shape) - 1 if node.target in ops.PRODUCTS_LAST else min(1, len(shape) - 1)
    return NodeCost(
        name=node.name, op=op_name(node), weight=str(weight.target) if weight else None,
        channels=shape[axis], macs=count_macs(node), bits=bits,
        weight_bits=weight_bits, activation_bits=activation_bits, weight_bytes=weight_bytes,
        traffic_bytes=elements * bits // 8 + weight_bytes)


def _first_shape(node: Node) -> Shape:
    """Shape of a node's result, or of the first result if there are several."""
    value = node.meta["val"]
    first = value[0] if isinstance(value, list | tuple) else value
    return tuple(concrete_size(size) for size in first.shape)


def _stored_source(node: Node) -> Node:
    while node.op == "call_function":
        node = node.all_input_nodes[0]
    return node


# Operators that count as 0 MACs and are neither point-wise nor views.
_FREE: Final = ops.names(
    ops.NORMS | ops.POOLS | ops.SOFTMAXES | ops.PADS | ops.COPIES | ops.CASTS | ops.DROPOUTS
    | ops.RESHAPES | ops.UNFLATTENINGS | ops.SPLITS | {ops.EMBEDDING, ops.ROUTE}) | frozenset("""
    prelu feature_dropout alpha_dropout cat stack mean sum amax amin max min argmax cumsum
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
    upsample_trilinear3d upsample_bicubic2d pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle index index_select gather roll repeat flip zeros zeros_like ones
    ones_like full full_like arange empty eye sym_size sym_numel scalar_tensor matrix_transpose
    meshgrid one_hot tril triu _assert_tensor_metadata _assert_scalar item type_as glu var std
    var_mean std_mean norm linalg_vector_norm prod logsumexp repeat_interleave im2col col2im sort
    topk argsort new_zeros new_ones new_full
""".split())


def _is_free(node: Node) -> bool:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return not isinstance(target, torch._ops.HigherOrderOperator)
    if is_quantization(node) or is_pointwise(target):
        return True
    returns = target._schema.returns
    is_alias = bool(returns) and returns[0].alias_info is not None
    return is_alias or base_name(target) in _FREE
