"""The vocabulary of operators: what counts as a convolution, a layer, a norm or an average.

All code that depends on the kind of an operator uses these definitions: sets of overloads to test
``node.target`` against, and functions that say where a layer's tensors have their outputs and
channels. Read arguments by their name in the operator's schema, with `argument`. Sets that differ
have different names, and their comments give the reason for the difference.

Example:
    >>> from edgewright.graph import ops
    >>> torch.ops.aten.conv2d.padding in ops.CONVOLUTIONS, sorted(ops.names(ops.ADDED_PRODUCTS))
    (True, ['addmm', 'baddbmm'])
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, Final

import torch
import torch.ao.quantization.fx._decomposed  # registers what a quantized program calls
from torch.fx import Node

from edgewright.graph import _route
from edgewright.graph._nodes import argument, base_name, has_argument

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed

OperatorSet = frozenset[Any]

# -- Layers: they multiply their input by a weight ------------------------------------------------

DIRECT_CONVOLUTIONS: Final[OperatorSet] = frozenset({
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding})
"""Weights (out, in / groups, *kernel); ``.padding`` overloads take "same" or "valid"."""

NUMBERED_PADDING: Final[dict[Any, Any]] = {
    aten.conv1d.padding: aten.conv1d.default, aten.conv2d.padding: aten.conv2d.default,
    aten.conv3d.padding: aten.conv3d.default}
"""For each convolution whose padding is a string, the overload whose padding is numeric."""

TRANSPOSED_CONVOLUTIONS: Final[OperatorSet] = frozenset({
    aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input})
"""Weights (in, out / groups, *kernel)."""

CONVOLUTIONS: Final[OperatorSet] = DIRECT_CONVOLUTIONS | TRANSPOSED_CONVOLUTIONS

GENERAL_CONVOLUTION: Final = aten.convolution.default
"""Called by ``torch.convolution``: any rank; the argument ``transposed`` selects the kind."""

VOLUME_CONVOLUTIONS: Final[OperatorSet] = frozenset({aten.conv3d.default, aten.conv3d.padding})
"""Convolutions over three spatial dimensions; runtimes have no integer kernels for them."""

INTEGER_CONVOLUTIONS: Final[OperatorSet] = DIRECT_CONVOLUTIONS - VOLUME_CONVOLUTIONS
"""Convolutions that runtimes have integer kernels for."""

LINEAR: Final = aten.linear.default
"""Weight (out, in)."""

OUTPUTS_FIRST: Final[OperatorSet] = DIRECT_CONVOLUTIONS | {LINEAR}
"""Layers whose weight has the outputs in dimension 0 and the inputs in dimension 1."""

LAYERS: Final[OperatorSet] = CONVOLUTIONS | {LINEAR}

EMBEDDING: Final = aten.embedding.default
EMBEDDING_BAG: Final = aten.embedding_bag.padding_idx
"""Sums or means of embedding rows."""

BILINEAR: Final = aten.bilinear.default

RECURRENT_LAYERS: Final[OperatorSet] = frozenset({
    aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input})
"""All steps, layers and directions in one call; weights and biases are in the list ``params``."""

RECURRENT_CELLS: Final[OperatorSet] = frozenset({
    aten.lstm_cell.default, aten.gru_cell.default, aten.rnn_tanh_cell.default,
    aten.rnn_relu_cell.default})
"""One step; weights ``w_ih`` for the input and ``w_hh`` for the state, (gates * hidden, in)."""

# -- Products of two tensors -----------------------------------------------------------------------

MATRIX_PRODUCTS: Final[OperatorSet] = frozenset({
    aten.matmul.default, aten.mm.default, aten.bmm.default})

ADDED_PRODUCTS: Final[OperatorSet] = frozenset({aten.addmm.default, aten.baddbmm.default})
"""Matrix products that are added to their first argument."""

EINSUM: Final = aten.einsum.default
ATTENTION: Final = aten.scaled_dot_product_attention.default

_FACTORS: Final[dict[str, tuple[str, str]]] = {
    "matmul": ("self", "other"), "mm": ("self", "mat2"), "bmm": ("self", "mat2"),
    "mv": ("self", "vec"), "dot": ("self", "tensor"),
    "addmm": ("mat1", "mat2"), "baddbmm": ("batch1", "batch2"), "addmv": ("mat", "vec")}

# -- Norms -----------------------------------------------------------------------------------------

BATCH_NORM: Final = aten.batch_norm.default

STATISTICS_NORMS: Final[OperatorSet] = frozenset({BATCH_NORM, aten.instance_norm.default})
"""Norms that may have running statistics."""

CHANNEL_NORMS: Final[OperatorSet] = STATISTICS_NORMS | {aten.group_norm.default}
"""Norms with one scale and offset per channel; channels are dimension 1."""

FEATURE_NORMS: Final[OperatorSet] = frozenset({aten.layer_norm.default, aten.rms_norm.default})
"""Norms over the last dimensions."""

NORMS: Final[OperatorSet] = CHANNEL_NORMS | FEATURE_NORMS

# -- Averages and pooling --------------------------------------------------------------------------

AVERAGE_POOLS: Final[OperatorSet] = frozenset({
    aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default,
    aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default})

AVERAGES: Final[OperatorSet] = AVERAGE_POOLS | {aten.mean.dim}

INTEGER_AVERAGES: Final[OperatorSet] = frozenset({
    aten.mean.dim, aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default})
"""Averages that runtimes have integer kernels for."""

MAX_POOLS: Final[OperatorSet] = frozenset({
    aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default,
    aten.max_pool1d_with_indices.default, aten.max_pool2d_with_indices.default,
    aten.max_pool3d_with_indices.default, aten.adaptive_max_pool1d.default,
    aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default})

PLAIN_MAX_POOLS: Final[OperatorSet] = frozenset({
    aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default})
"""Max pools that return values only, without indices."""

INTEGER_MAX_POOLS: Final[OperatorSet] = PLAIN_MAX_POOLS - {aten.max_pool3d.default}
"""Max pools that runtimes have integer kernels for."""

POOLS: Final[OperatorSet] = AVERAGE_POOLS | MAX_POOLS

# -- Element-wise ----------------------------------------------------------------------------------

RECTIFIERS: Final[OperatorSet] = frozenset({
    aten.relu.default, aten.relu_.default, aten.relu6.default, aten.relu6_.default,
    aten.hardtanh.default, aten.hardtanh_.default})
"""Activations that clamp a value; integer kernels fuse them with the layer before."""

CLAMPS: Final[OperatorSet] = RECTIFIERS | {aten.clamp.default}

SOFTMAXES: Final[OperatorSet] = frozenset({
    aten.softmax.int, aten.log_softmax.int, aten._softmax.default, aten._log_softmax.default})

ADDITIONS: Final[OperatorSet] = frozenset({aten.add.Tensor, aten.add_.Tensor})

MULTIPLICATIONS: Final[OperatorSet] = frozenset({aten.mul.Tensor, aten.mul_.Tensor})

# -- Data movement ---------------------------------------------------------------------------------

RESHAPES: Final[OperatorSet] = frozenset({
    aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.squeeze.default,
    aten.squeeze.dim, aten.squeeze.dims})
"""The same elements in the same order, without those that only add dims (`UNFLATTENINGS`)."""

UNFLATTENINGS: Final[OperatorSet] = frozenset({aten.unsqueeze.default, aten.unflatten.int})
PERMUTATIONS: Final[OperatorSet] = frozenset({aten.permute.default, aten.transpose.int})
COPIES: Final[OperatorSet] = frozenset({aten.clone.default, aten.contiguous.default})
DROPOUTS: Final[OperatorSet] = frozenset({aten.dropout.default, aten.dropout_.default})
CASTS: Final[OperatorSet] = frozenset({aten.to.dtype, aten._to_copy.default})
SLICES: Final[OperatorSet] = frozenset({aten.slice.Tensor, aten.select.int})

SPLITS: Final[OperatorSet] = frozenset({
    aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int})
"""They split one tensor into several; a ``getitem`` reads each part."""

FILLED_LIKE: Final[OperatorSet] = frozenset({
    aten.zeros_like.default, aten.ones_like.default, aten.full_like.default,
    aten.empty_like.default})
"""The result depends on the dtype and shape of the first argument, but not on its values."""

FILLED_NEW: Final[OperatorSet] = frozenset({
    aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default})
"""The result depends on the dtype of the first argument, but not on its values."""

PADS: Final[OperatorSet] = frozenset({aten.pad.default, aten.constant_pad_nd.default})

ITEM: Final = operator.getitem

ROUTE: Final = _route.ROUTE
"""Called with an index and one output per branch; selects one of them, per sample or per call."""

# -- Quantization ----------------------------------------------------------------------------------

QUANTIZE: Final = quantized.quantize_per_tensor.default
DYNAMIC_QUANTIZE: Final = quantized.quantize_per_tensor.tensor
DEQUANTIZE: Final = quantized.dequantize_per_tensor.default
DYNAMIC_DEQUANTIZE: Final = quantized.dequantize_per_tensor.tensor
QUANTIZE_CHANNELS: Final = quantized.quantize_per_channel.default
DEQUANTIZE_CHANNELS: Final = quantized.dequantize_per_channel.default
DEQUANTIZE_GROUPS: Final = quantized.dequantize_per_channel_group.default
CHOOSE_GRID: Final = quantized.choose_qparams.tensor
"""Computes scale and zero point from its input's range, for the ``.tensor`` overloads above."""

QUANTIZERS: Final[OperatorSet] = frozenset({QUANTIZE, DYNAMIC_QUANTIZE})
"""They quantize activations."""

STORED_DEQUANTIZERS: Final[OperatorSet] = frozenset({DEQUANTIZE_CHANNELS, DEQUANTIZE_GROUPS})
"""They dequantize weights, whose scales and zero points are stored tensors."""

# -- Layouts ---------------------------------------------------------------------------------------

CHANNELS_FIRST: Final[OperatorSet] = CONVOLUTIONS | CHANNEL_NORMS | POOLS
"""Input and output are (N, C, ...)."""

CHANNELS_LAST: Final[OperatorSet] = FEATURE_NORMS | {LINEAR}
"""Input and output are (N, ..., C)."""

PRODUCTS_LAST: Final[OperatorSet] = MATRIX_PRODUCTS | ADDED_PRODUCTS | RECURRENT_LAYERS | {
    LINEAR, BILINEAR, EINSUM, ATTENTION}
"""Layers and products with their outputs in the last dimension; `CONVOLUTIONS` use dimension 1."""


def names(targets: Iterable[Any]) -> frozenset[str]:
    """The plain names of operators, shared by their overloads: "conv2d", "add"."""
    return frozenset(map(base_name, targets))


def spatial_rank(target: Any) -> int:
    """Number of spatial dimensions of a convolution or pooling: 2 for ``aten.conv2d.default``."""
    return int(max(parameter.N for parameter in target._schema.arguments if parameter.N))


def is_convolution(node: Node) -> bool:
    """Whether a call is a convolution of any kind, including `GENERAL_CONVOLUTION`."""
    return node.target in CONVOLUTIONS or node.target is GENERAL_CONVOLUTION


def is_transposed(node: Node) -> bool:
    """Whether a call is a transposed convolution."""
    return node.target in TRANSPOSED_CONVOLUTIONS or bool(argument(node, "transposed", False))


def groups_of(node: Node) -> int:
    """Number of groups of a convolution; 1 for any other call."""
    return int(argument(node, "groups", 1))


def output_dim(node: Node) -> int:
    """The output dimension of a layer's weight, 0 or 1; the input dimension is the other one.

    Example:
        >>> graph = torch.fx.Graph()
        >>> x, w = graph.placeholder("x"), graph.placeholder("w")
        >>> output_dim(graph.call_function(aten.conv_transpose2d.input, (x, w)))
        1
    """
    return int(is_transposed(node))


def factors(node: Node) -> tuple[Any, Any]:
    """The left and right factor of a matrix product."""
    left, right = _FACTORS[base_name(node.target)]
    return argument(node, left), argument(node, right)


def weight_argument(node: Node) -> str | None:
    """Name of the argument with a layer's weight or a product's right factor; None without."""
    factor = _FACTORS.get(base_name(node.target))
    if factor is not None:
        return factor[1]
    return "weight" if has_argument(node, "weight") else None


def weight_operand(node: Node) -> Any:
    """What a layer multiplies its input by, or a product's right factor; None without."""
    if node.target in RECURRENT_LAYERS:
        return argument(node, "params")[0]
    name = "w_ih" if node.target in RECURRENT_CELLS else weight_argument(node)
    return None if name is None else argument(node, name)
