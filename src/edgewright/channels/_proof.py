"""Numerical proof of slicing: the masked and the sliced program compute the same function.

In the masked program the removed channels have no effect wherever channels are read. In a sum of
products (convolutions, matrix products) they are zero. Where a whole dimension is read (the
statistics of a norm, a softmax, a mean) only the other channels are read. Elsewhere their values do
not matter. This checks everything that slicing rewrites: which weights and indices are removed, and
every size that is an argument in the graph.
"""

from __future__ import annotations

import math
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgewright.capture import FORWARD_ERRORS
from edgewright.channels._axes import Dim, Dims, axes_of
from edgewright.channels._channels import ChannelGroups
from edgewright.channels._removal import RemovedChannels
from edgewright.channels._side_by_side import SideBySide
from edgewright.program import Program, probe_inputs

_MINIMUM_NORM: Final = 1e-3
_MIN_SCALE: Final = 1e-30


def measure_masked_error(program: Program, sliced: Program, groups: ChannelGroups,
                         removal: RemovedChannels) -> tuple[float, str]:
    """The largest relative error of any value between masked and sliced program, and its node.

    Both run side by side on `probe_inputs` and are compared at the outputs and wherever channels
    are read (at every sum of products, norm and softmax), so that an error is found even if it has
    no effect on the outputs (for example before a head whose weights are all zero).
    """
    inputs = pytree.tree_leaves(probe_inputs(program))
    inputs = inputs if groups.merges_batch else [leaf[:1] for leaf in inputs]
    side_by_side = _MaskedAndSliced(program, sliced, groups, removal)
    with torch.no_grad():
        try:
            side_by_side.run(*inputs, enable_io_processing=False)
        except _CallError as failure:
            return math.inf, str(failure)
    return side_by_side.worst, side_by_side.where


class _CallError(Exception):
    """A call of the masked or sliced program failed."""


def _error(expected: Tensor, actual: Tensor, min_norm: float) -> tuple[float, float]:
    """The relative error, and the norm it is relative to."""
    if expected.shape != actual.shape:
        return math.inf, 0.0
    if not expected.is_floating_point():
        return 0.0 if torch.equal(expected, actual) else math.inf, 0.0
    error, norm = float((expected - actual).norm()), float(expected.norm())
    if not math.isfinite(error + norm):  # masks may be infinite in both
        same = (expected == actual) | (expected.isnan() & actual.isnan())
        error = float((expected - actual).masked_fill(same, 0).norm())
        norm = float(expected.masked_fill(~expected.isfinite(), 0).norm())
    return error / max(norm, min_norm) if math.isfinite(error) else math.inf, norm


@final
class _MaskedAndSliced(SideBySide):
    """Runs a program with removed channels masked, side by side with the sliced program."""

    def __init__(self, program: Program, sliced: Program, groups: ChannelGroups,
                 removal: RemovedChannels) -> None:
        super().__init__(program, sliced)
        self.worst, self.where = 0.0, ""
        self._groups = groups
        self._removal = removal
        self._batch = 1
        self._norms: dict[Node, float] = {}
        self._known: dict[tuple[int, ...], Tensor] = {}
        self._compared = {found.node for found in groups.contractions} | groups.whole_reads | {
            source for node in program.graph.nodes if node.op == "output"
            for source in node.all_input_nodes}
        self._summed: dict[Node, list[tuple[Node, int]]] = {}
        for node, source, dim in groups.contractions:
            if removal.removes(source, dim):
                self._summed.setdefault(node, []).append((source, dim))

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self._batch = args[0].shape[0]
        return super().run(*args, **kwargs)

    def run_whole(self, node: Node) -> Any:
        try:
            return self._run_masked(node)
        except FORWARD_ERRORS as error:
            raise _CallError(f"{node.name}, which fails: {error}") from error

    def run_sliced(self, twin: Node) -> Any:
        try:
            return super().run_sliced(twin)
        except FORWARD_ERRORS as error:
            raise _CallError(f"{twin.name}, which fails: {error}") from error

    def after_sliced(self, node: Node, value: Any, sliced_value: Any) -> None:
        """Compare both values, relative to their norm or to 1/1000 of the operands' norm."""
        operands = max((self._norms.get(source, 0.0) for source in node.all_input_nodes),
                       default=0.0)
        self._norms[node] = operands
        if node not in self._compared:
            return
        results = self._groups.results(node)
        parts = results if isinstance(results, list) else [results or ()]
        leaves = zip(pytree.tree_leaves(value), pytree.tree_leaves(sliced_value), strict=True)
        for number, (expected, actual) in enumerate(leaves):
            if isinstance(expected, Tensor) and number < len(parts):
                error, norm = _error(self._kept_part(expected, parts[number]), actual,
                                     max(_MINIMUM_NORM * operands, _MIN_SCALE))
                if number == 0:
                    self._norms[node] = norm
                if error > self.worst:
                    self.worst, self.where = error, node.name

    def _run_masked(self, n: Node) -> Any:
        if n in self._groups.whole_reads:
            return self._run_whole(n)
        if n in self._summed:
            return self._run_sum(n)
        return super().run_whole(n)

    def _run_sum(self, node: Node) -> Any:
        masked = {source: self.env[source] for source, _ in self._summed[node]}
        for source, dim in self._summed[node]:
            value = masked[source]
            kept = self._kept(source, dim)
            shape = [1] * value.ndim
            shape[dim] = -1
            zero = torch.zeros((), dtype=value.dtype)
            masked[source] = torch.where(kept.reshape(shape), value, zero)
        return self._call(node, node, lambda source: masked.get(source, self.env[source]))

    def _run_whole(self, node: Node) -> Any:
        """Run the call on the kept channels only, and scatter its results to the full size."""
        result = self._call(node, self.twins[node], self._select_kept)
        outputs = node.meta["val"]
        if isinstance(outputs, list | tuple):
            known: Any = self._groups.results(node)
            return [self._scatter(part, [self._flags(dim) for dim in dims])
                    for part, dims in zip(result, known, strict=True)]
        return self._scatter(result, [self._kept(node, dim) for dim in range(result.ndim)])

    def _call(self, node: Node, written: Node, value: Any) -> Any:
        """Call a node's operator with the constants of ``written`` and operands from ``value``."""
        sources = dict(zip(written.all_input_nodes, node.all_input_nodes, strict=True))
        args, kwargs = torch.fx.node.map_arg(
            (written.args, written.kwargs), lambda operand: value(sources[operand]))
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _select_kept(self, source: Node) -> Any:
        value = self.env[source]
        if not isinstance(value, Tensor):
            return value
        return self._kept_part(value, self._groups.dims(source))

    def _kept_part(self, value: Tensor, dims: Dims) -> Tensor:
        """The part of a value that is kept."""
        for dim, axes in enumerate(dims):
            if axes_of(axes):
                kept = self._flags(axes)
                if not kept.all():
                    value = value.index_select(dim, kept.nonzero().reshape(-1))
        return value

    def _scatter(self, value: Tensor, flags: list[Tensor]) -> Tensor:
        for dim, kept in enumerate(flags):
            if len(kept) != value.shape[dim]:
                shape = list(value.shape)
                shape[dim] = len(kept)
                whole = value.new_zeros(shape)
                value = whole.index_copy(dim, kept.nonzero().reshape(-1), value)
        return value

    def _kept(self, source: Node, dim: int) -> Tensor:
        return self._flags(self._groups.dims(source)[dim])

    def _flags(self, dim: Dim) -> Tensor:
        key = tuple(axis if isinstance(axis, int) else -id(axis) for axis in dim)
        if key not in self._known:
            self._known[key] = torch.from_numpy(self._removal.flags(dim, self._batch))
        return self._known[key]
