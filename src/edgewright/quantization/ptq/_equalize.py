"""Cross-layer equalisation: the ranges of the weights of a channel are evened out between layers.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction",
equations 9 to 11. A channel between two layers has the range ``r1`` in the rows of the first and
``r2`` in the columns of the second; scaled by ``sqrt(r2 / r1)`` it has the same in both, and the
sum over the channels of the products of their *precisions* (range over the layer's range) is
the greatest there can be. Where more than two layers meet (a residual stream, a concatenation),
which the paper leaves out, a channel is scaled to the level at which the squares of all its
logarithmic ranges are least, the same for two; and only if the sum does not fall. Evening out one
pair moves the ranges of its neighbours: of all sweeps the one whose sum over the whole network is
the greatest counts, so that it is never less than at the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.graph import stored_tensors
from edgewright.program import Program
from edgewright.quantization.ptq._scalable import IntArray, Scalable, ScalableLayer, find_scalable

_SWEEPS: Final = 100
_SETTLED: Final = 1e-3  # of the logarithm of a factor
_ROUNDING: Final = 1e-9
_BOUND: Final = 20.0  # of the logarithm of a factor, far within float32
FloatArray = NDArray[np.float64]


def equalize(program: Program) -> Program:
    """Even out the ranges of the channels between layers; the function computed stays the same.

    Layers, and what lies between them, are found in the graph; see `find_scalable`. Streams of
    values are gone through, in the program's order, until no factor moves.

    Args:
        program: In floating point, its batch norms folded.

    Returns:
        A program with other weights and biases, or ``program`` itself where there is nothing to
        even out.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(),
        ...                             torch.nn.Linear(2, 1))
        >>> _ = model[0].weight.data.copy_(torch.tensor([[4.0], [1.0]]))
        >>> _ = model[2].weight.data.copy_(torch.tensor([[1.0, 4.0]]))
        >>> even = equalize(Program.capture(model, torch.zeros(1, 1)))
        >>> even.state_dict()["0.weight"].flatten().tolist()
        [2.0, 2.0]
    """
    scalable = find_scalable(program)
    tensors = stored_tensors(program.graph_module)
    layers = [_Ranges.of(layer, tensors[layer.weight]) for layer in scalable.layers]
    logarithms = _solve(scalable, layers)
    if np.abs(logarithms).max(initial=0.0) < _SETTLED:
        return program
    even = program.copy()
    _apply(even, scalable, np.exp(logarithms))
    return even


@final
@dataclass(eq=False)
class _Ranges:
    """The largest magnitude of a layer's weights for each pair of an output and an input.

    Attributes:
        layer: Which.
        magnitudes: (groups, outputs of a group, inputs of a group).
    """

    layer: ScalableLayer
    magnitudes: FloatArray

    @classmethod
    def of(cls, layer: ScalableLayer, weight: Tensor) -> _Ranges:
        pairs = weight.detach().abs().double().flatten(2).amax(2) if weight.ndim > 2 \
            else weight.detach().abs().double()
        grouped = pairs.reshape(layer.groups, -1, pairs.shape[1])
        return cls(layer, (grouped.transpose(1, 2) if layer.transposed else grouped).numpy())

    def outputs(self) -> FloatArray:
        """The range of each output channel's row."""
        return np.asarray(self.magnitudes.max(2).reshape(-1))

    def inputs(self) -> FloatArray:
        """The range of each input channel's column."""
        return np.asarray(self.magnitudes.max(1).reshape(-1))


def _scaled(layer: ScalableLayer, grouped: FloatArray, factors: FloatArray) -> FloatArray:
    groups, outputs, inputs = grouped.shape
    written = _chosen(factors, layer.writes).reshape(groups, outputs, 1)
    read = _chosen(factors, layer.reads).reshape(groups, 1, inputs)
    return grouped * written / read


def _chosen(factors: FloatArray, numbers: IntArray) -> FloatArray:
    return np.where(numbers < 0, 1.0, np.append(factors, 1.0)[numbers])


@dataclass(frozen=True, eq=False)
class _Member:
    """One side of a layer in a stream: its rows or its columns."""

    ranges: _Ranges
    writes: bool

    @property
    def numbers(self) -> IntArray:
        """Of the factor of each channel."""
        return self.ranges.layer.writes if self.writes else self.ranges.layer.reads

    def by_factor(self, factors: IntArray) -> tuple[FloatArray, FloatArray]:
        """For each of some factors the range of its channels here, and the share of the layer's.

        A factor that is not here has the range nan and the share 1.
        """
        ranges = self.ranges.outputs() if self.writes else self.ranges.inputs()
        found = np.full(int(max(factors.max(), self.numbers.max())) + 1, -1.0)
        here = self.numbers >= 0
        np.maximum.at(found, self.numbers[here], ranges[here])
        mine = found[factors]
        whole = max(float(ranges.max()), np.finfo(float).tiny)
        return np.where(mine < 0, np.nan, mine), np.where(mine < 0, 1.0, mine / whole)


def _solve(scalable: Scalable, layers: list[_Ranges]) -> FloatArray:
    """The logarithm of every factor, from the best sweep."""
    found = np.zeros(len(scalable.streams))
    streams = [(np.flatnonzero(scalable.streams == stream), members)
               for stream, members in _members(scalable, layers).items()]
    best, most = found.copy(), _total(streams)
    for _ in range(_SWEEPS):
        largest = 0.0
        for numbers, members in streams:
            step = _step(numbers, members, found)
            largest = max(largest, float(np.abs(step).max()))
            found[numbers] += step
        total = _total(streams)
        if total >= most * (1 - _ROUNDING):
            best, most = found.copy(), total
        if largest < _SETTLED:
            break
    return best


def _total(streams: list[tuple[IntArray, list[_Member]]]) -> float:
    return sum(_worth(numbers, members) for numbers, members in streams)


def _members(scalable: Scalable, layers: list[_Ranges]) -> dict[int, list[_Member]]:
    members: dict[int, list[_Member]] = {stream: [] for stream in scalable.streams.tolist()}
    for ranges in layers:
        for writes in (True, False):
            member = _Member(ranges, writes)
            for stream in set(scalable.streams[member.numbers[member.numbers >= 0]].tolist()):
                members[stream].append(member)
    return members


def _step(numbers: IntArray, members: list[_Member], before: FloatArray) -> FloatArray:
    """Even out one stream, and say by how much its factors' logarithms moved."""
    step = _wanted(numbers, members)
    step = np.clip(before[numbers] + step, -_BOUND, _BOUND) - before[numbers]
    factors = np.ones(len(before))
    factors[numbers] = np.exp(step)
    layers = {id(member.ranges): member.ranges for member in members}.values()
    kept, worth = [ranges.magnitudes for ranges in layers], _worth(numbers, members)
    for ranges in layers:
        ranges.magnitudes = _scaled(ranges.layer, ranges.magnitudes, factors)
    if _worth(numbers, members) >= worth * (1 - _ROUNDING):
        return step
    for ranges, magnitudes in zip(layers, kept, strict=True):
        ranges.magnitudes = magnitudes
    return np.zeros_like(step)


def _wanted(numbers: IntArray, members: list[_Member]) -> FloatArray:
    """The logarithm of the factor at which the squares of each channel's logarithms are least.

    A range of zero counts as the smallest there is in its layer: what it is scaled by is all the
    same there, and should not leave the channel's other ranges above all others.
    """
    ranges = np.stack([member.by_factor(numbers)[0] for member in members])
    signs = np.array([[-1.0] if member.writes else [1.0] for member in members])
    present = ~np.isnan(ranges)
    least = np.where(ranges > 0, ranges, np.inf).min(1, keepdims=True)
    level = np.where(ranges > 0, ranges, np.where(np.isinf(least), 1.0, least))
    return np.asarray((signs * np.where(present, np.log(level), 0.0)).sum(0) / present.sum(0))


def _worth(numbers: IntArray, members: list[_Member]) -> float:
    """The sum over the channels of the products of their precisions (equation 9)."""
    return float(np.prod([member.by_factor(numbers)[1] for member in members], axis=0).sum())


def _apply(program: Program, scalable: Scalable, factors: FloatArray) -> None:
    tensors = stored_tensors(program.graph_module)
    with torch.no_grad():
        for layer in scalable.layers:
            weight = tensors[layer.weight]
            shape = (layer.groups, -1, weight.shape[1])
            ones = np.ones((weight.shape[0], weight.shape[1])).reshape(shape)
            ones = ones.transpose(0, 2, 1) if layer.transposed else ones
            scale = _scaled(layer, ones, factors)
            scale = scale.transpose(0, 2, 1) if layer.transposed else scale
            by_pair = torch.from_numpy(scale.reshape(weight.shape[:2]).copy())
            weight.copy_(weight * by_pair.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2)))
            if layer.bias is not None:
                bias = tensors[layer.bias]
                bias.copy_(bias * torch.from_numpy(_chosen(factors, layer.writes)))
