"""Weights without an integer kernel: stored as integers, dequantized before use.

The size of a file is dominated by its largest tensors. The runtimes have no integer kernels for
embeddings, recurrent and transposed layers, products with parameters, and weights that are sliced
or transposed before use, but these weights can still be stored as integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, final

from torch import nn
from torch.fx import Node

from edgewright.graph import argument, ops, read_tensor, shape_of
from edgewright.program import Program
from edgewright.quantization.placement._fused_ops import FusedOp
from edgewright.quantization.placement._shared_grids import is_output, origin

_WEIGHTED: Final = (ops.TRANSPOSED_CONVOLUTIONS | ops.VOLUME_CONVOLUTIONS | ops.RECURRENT_LAYERS
                    | {ops.EMBEDDING, ops.BILINEAR})
_MIN_SAVED_BYTES: Final = 256  # the dequantize operators themselves take about this much
_MIN_VALUES_PER_SCALE: Final = 8  # with fewer, the scales take too many bytes


@final
@dataclass(frozen=True)
class StoredWeight:
    """A weight and the calls that read it without an integer kernel.

    Attributes:
        readers: The calls, in program order.
        shape: Shape of the weight.
        axis: The output dimension, with one scale per entry; None for one scale per tensor.
    """

    readers: tuple[Node, ...]
    shape: tuple[int, ...]
    axis: int | None

    @property
    def is_worthwhile(self) -> bool:
        """Whether integers, scales and dequantize operators are smaller than the float weight."""
        count = math.prod(self.shape)
        scales = 1 if self.axis is None else self.shape[self.axis]
        return 4 * count - (count + 4 * scales) >= _MIN_SAVED_BYTES

    @property
    def is_first_or_last(self) -> bool:
        """Whether a reader is next to an input or an output of the model."""
        return any(is_output(reader) or any(origin(source).op == "placeholder"
                                            for source in reader.all_input_nodes)
                   for reader in self.readers)


def collect_stored_weights(program: Program,
                           fused_ops: Iterable[FusedOp]) -> dict[str, StoredWeight]:
    """All weights that calls other than the layers of ``fused_ops`` read, by name.

    Weights are parameters with at least two dimensions, and constants that an operator uses as its
    weight.

    Args:
        program: A program in floating point.
        fused_ops: Its layers.
    """
    layers = {(op.node, op.weight) for op in fused_ops}
    readers: dict[str, list[tuple[Node, Node]]] = {}
    for node in program.graph.nodes:
        if node.op == "get_attr" and _is_weight(node):
            found = [(node, user) for user in node.users if (user, node) not in layers]
            readers.setdefault(str(node.target), []).extend(found)
    return {name: _make_stored_weight(pairs) for name, pairs in readers.items() if pairs}


def add_reader(weight: StoredWeight | None, layer: FusedOp) -> StoredWeight:
    """Add a layer to the readers of a weight; creates the weight if it is None."""
    found = _make_stored_weight([(layer.weight, layer.node)] if layer.weight is not None else [])
    return found if weight is None else replace(
        found, readers=(*weight.readers, *found.readers))


def _is_weight(node: Node) -> bool:
    tensor = read_tensor(node)
    if tensor is None or tensor.ndim < 2 or not tensor.is_floating_point():
        return False
    return isinstance(tensor, nn.Parameter) or any(
        user.target in _WEIGHTED and not _is_input(user, node) for user in node.users)


def _is_input(user: Node, node: Node) -> bool:
    """Whether a constant is the input of a layer and not its weight."""
    return user.target is not ops.EMBEDDING and user.args[0] is node


def _make_stored_weight(pairs: list[tuple[Node, Node]]) -> StoredWeight:
    shape = shape_of(pairs[0][0])
    axis = next((found for node, user in pairs if (found := _output_axis(user, node)) is not None),
                next((dim for dim, size in enumerate(shape) if size > 1), 0))
    sharers = math.prod(shape) // max(shape[axis], 1)
    return StoredWeight(tuple(dict.fromkeys(user for _, user in pairs)), shape,
                        axis if sharers >= _MIN_VALUES_PER_SCALE else None)


def _output_axis(user: Node, weight: Node) -> int | None:
    """The output dimension of a weight in an operator; None if unknown."""
    if user.target in ops.TRANSPOSED_CONVOLUTIONS and argument(user, "weight") is weight:
        return ops.output_dim(user)
    is_product = user.target in ops.MATRIX_PRODUCTS | ops.ADDED_PRODUCTS
    if is_product and ops.factors(user)[1] is weight:
        return len(shape_of(weight)) - 1
    return None
