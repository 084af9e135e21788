"""Operators that read a whole dimension: norms, softmax, reductions, pooling.

Channels that are removed take no part: a mean is over those that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch.fx import Node

from edgewright.channels._axes import BATCH, Dim, Dims, axes_of, fixed, match, reshape, size_of
from edgewright.channels.operators._elementwise import pointwise
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator, Removal
from edgewright.graph import argument, base_name, ops, set_argument, shape_of, tensor_of


def _per_channel(tracker: LabelTracker, node: Node) -> Labels:
    """Batch and instance norm: a channel is tied to its scale, shift and statistics."""
    return _scaled_channels(tracker, node, [argument(node, name) for name in (
        "weight", "bias", "running_mean", "running_var")])


def _scaled_channels(tracker: LabelTracker, node: Node, parameters: Sequence[Any]) -> Dims:
    """Dimension 1 is tied to the given parameters; all other dimensions are pinned."""
    source = node.args[0]
    dims = tracker.dims(source)
    for dim in range(len(dims)):
        if dim != 1:
            tracker.pin(source, dim, f"{node.name} normalizes over it")
    for parameter in parameters:
        if isinstance(parameter, Node):
            match(tracker.couplings, dims[1], tracker.dims(parameter)[0],
                  f"{node.name} normalizes a fixed input")
    return dims


def _layer_norm(tracker: LabelTracker, node: Node) -> Labels:
    """Layer and RMS norm over the last dimensions."""
    dims = list(tracker.dims(node.args[0]))
    normalized = argument(node, "normalized_shape")
    start = len(dims) - len(normalized)
    if any(axes_of(dim) for dim in dims[start:]):
        tracker.record_whole_read(node)
    for parameter in (argument(node, "weight"), argument(node, "bias")):
        if isinstance(parameter, Node):
            for offset, dim in enumerate(tracker.dims(parameter)):
                match(tracker.couplings, dims[start + offset], dim,
                      f"{node.name} normalizes a fixed input")
    return tuple(dims)


def _resize_layer_norm(node: Node, twin: Node, removal: Removal) -> None:
    sizes = list(argument(twin, "normalized_shape"))
    rank = len(shape_of(node))
    for back in range(1, len(sizes) + 1):
        if removal.removes(node, rank - back):
            sizes[-back] = removal.kept_size(node, rank - back)
    set_argument(twin, "normalized_shape", sizes)


def _group_norm(tracker: LabelTracker, node: Node) -> Labels:
    """Channels are the product of groups and channels per group; both can be pruned."""
    dims = _scaled_channels(tracker, node, (argument(node, "weight"), argument(node, "bias")))
    count = argument(node, "num_groups")
    group, _ = reshape(tracker.couplings, dims[1:2], (count, size_of(dims[1]) // count),
                       f"{node.name} normalizes over groups of it")
    tracker.record_dim(node, group)
    if axes_of(dims[1]):
        tracker.record_whole_read(node)
    return dims


def _resize_group_norm(node: Node, twin: Node, removal: Removal) -> None:
    set_argument(twin, "num_groups", removal.recorded_size(node))


def _softmax(tracker: LabelTracker, node: Node) -> Labels:
    dims = tracker.dims(node.args[0])
    if axes_of(dims[argument(node, "dim") % len(dims)]):
        tracker.record_whole_read(node)
    return dims


def _reduce(tracker: LabelTracker, node: Node) -> Labels:
    source = node.args[0]
    dims = tracker.dims(source)
    reduced = _places(argument(node, "dim"), len(dims))
    if any(axes_of(dims[dim]) for dim in reduced):
        tracker.record_whole_read(node)
    outputs = node.meta["val"]
    if isinstance(outputs, list | tuple):
        return [_reduced(dims, reduced, output.ndim) for output in outputs]
    return None if tensor_of(node) is None else _reduced(dims, reduced, outputs.ndim)


def _reduce_to_index(tracker: LabelTracker, node: Node) -> Labels:
    """The index of a maximum depends on the dimension, so it is pinned."""
    source = node.args[0]
    for dim in _places(argument(node, "dim"), len(tracker.dims(source))):
        tracker.pin(source, dim, f"{node.name} counts along it")
    return _reduce(tracker, node)


def _extremum(tracker: LabelTracker, node: Node) -> Labels:
    """``max`` of two tensors, of all, or over a dimension with indices."""
    if argument(node, "other") is not None:
        return pointwise(tracker, node)
    return (_reduce_to_index if argument(node, "dim") is not None else _reduce)(tracker, node)


def _places(dims: Any, rank: int) -> set[int]:
    if dims is None:
        return set(range(rank))
    values = dims if isinstance(dims, Sequence) else [dims]
    return {dim % rank for dim in values} or set(range(rank))


def _reduced(dims: Dims, reduced: set[int], rank: int) -> Dims:
    if rank == len(dims):
        return tuple(() if place in reduced else dim for place, dim in enumerate(dims))
    return tuple(dim for place, dim in enumerate(dims) if place not in reduced)


def _pool(rank: int) -> Operator:
    def rule(tracker: LabelTracker, node: Node) -> Labels:
        source = node.args[0]
        dims = tracker.dims(source)
        first = len(dims) - rank
        for dim in range(first, len(dims)):
            tracker.pin(source, dim, f"{node.name} pools over it")
        outputs = node.meta["val"]
        if isinstance(outputs, list | tuple):
            return [_spatial(dims[:first], output.shape[first:]) for output in outputs]
        return _spatial(dims[:first], shape_of(node, BATCH)[first:])

    return Operator(rule)


def _spatial(lead: Dims, sizes: Sequence[Any]) -> Dims:
    made: list[Dim] = [fixed(int(size)) for size in sizes]
    return (*lead, *made)


def _resample(tracker: LabelTracker, node: Node) -> Labels:
    source: Any = node.args[0]
    dims = tracker.dims(source)
    for dim in range(2, len(dims)):
        tracker.pin(source, dim, f"{node.name} resamples it")
    for grid in node.all_input_nodes[1:]:
        for dim in range(len(tracker.dims(grid))):
            tracker.pin(grid, dim, f"{node.name} samples at it")
    return _spatial(dims[:2], shape_of(node, BATCH)[2:])


_RESAMPLED: Final = [f"upsample_{kind}" for kind in (
    "nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "trilinear3d", "bicubic2d")]
OPERATORS: Final = {
    **dict.fromkeys(ops.names(ops.STATISTICS_NORMS), Operator(_per_channel)),
    **dict.fromkeys(ops.names(ops.FEATURE_NORMS), Operator(_layer_norm, _resize_layer_norm)),
    "group_norm": Operator(_group_norm, _resize_group_norm),
    **dict.fromkeys(ops.names(ops.SOFTMAXES), Operator(_softmax)),
    **dict.fromkeys(["mean", "sum", "amax", "amin", "prod", "logsumexp", "var", "std", "norm",
                     "linalg_vector_norm", "var_mean", "std_mean", "any", "all", "aminmax"],
                    Operator(_reduce)),
    **dict.fromkeys(["argmax", "argmin", "median", "mode", "kthvalue"],
                    Operator(_reduce_to_index)),
    **dict.fromkeys(["max", "min"], Operator(_extremum)),
    **{base_name(pool): _pool(ops.spatial_rank(pool)) for pool in ops.POOLS},
    **dict.fromkeys([*_RESAMPLED, "grid_sampler", "_upsample_nearest_exact1d",
                     "_upsample_nearest_exact2d"], Operator(_resample)),
}
