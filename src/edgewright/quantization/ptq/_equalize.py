"""Cross-layer equalization: equalize the weight ranges of each channel between layers.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction",
equations 9 to 11. A channel between two layers has the range ``r1`` in the rows of the first and
``r2`` in the columns of the second. Scaling it by ``sqrt(r2 / r1)`` makes both ranges equal and
maximizes the sum over the channels of the products of their *precisions* (range divided by the
range of the layer). The paper does not cover channels shared by more than two layers (a residual
stream, a concatenation). Here such a channel is scaled to minimize the sum of its squared
logarithmic ranges, which gives the same result for two layers, and only if the sum of precisions
does not decrease. Equalizing one pair changes the ranges of its neighbors, so the sweep with the
largest sum over the whole network is used; it is never smaller than at the start.
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
from edgewright.quantization.ptq._scalable_channels import (
    IntArray,
    ScalableChannels,
    ScalableLayer,
    find_scalable_channels,
)

_SWEEPS: Final = 100
_TOLERANCE: Final = 1e-3  # smallest change of the logarithm of a factor
_ROUNDING: Final = 1e-9
_BOUND: Final = 20.0  # largest logarithm of a factor, well within float32
FloatArray = NDArray[np.float64]


def equalize(program: Program) -> Program:
    """Equalize the channel ranges between layers without changing the computed function.

    The layers are found in the graph; see `find_scalable_channels`. Streams of values are processed
    in program order until no factor changes.

    Args:
        program: A program in floating point with folded batch norms.

    Returns:
        A program with other weights and biases, or ``program`` itself if there is nothing to
        equalize.

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
    scalable = find_scalable_channels(program)
    tensors = stored_tensors(program.graph_module)
    layers = [_Ranges.of(layer, tensors[layer.weight]) for layer in scalable.layers]
    logarithms = _solve(scalable, layers)
    if np.abs(logarithms).max(initial=0.0) < _TOLERANCE:
        return program
    even = program.copy()
    _apply(even, scalable, np.exp(logarithms))
    return even


@final
@dataclass(eq=False)
class _Ranges:
    """The largest magnitude of a layer's weights for each pair of output and input channel.

    Attributes:
        layer: The layer.
        magnitudes: (groups, outputs per group, inputs per group).
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
    """The rows (outputs) or the columns (inputs) of a layer, as part of a stream."""

    ranges: _Ranges
    writes: bool

    @property
    def numbers(self) -> IntArray:
        """The index of each channel's factor."""
        return self.ranges.layer.writes if self.writes else self.ranges.layer.reads

    def by_factor(self, factors: IntArray) -> tuple[FloatArray, FloatArray]:
        """For each factor, the range of its channels here, and its fraction of the layer's range.

        A factor that does not occur here has the range NaN and the fraction 1.
        """
        ranges = self.ranges.outputs() if self.writes else self.ranges.inputs()
        found = np.full(int(max(factors.max(), self.numbers.max())) + 1, -1.0)
        here = self.numbers >= 0
        np.maximum.at(found, self.numbers[here], ranges[here])
        mine = found[factors]
        whole = max(float(ranges.max()), np.finfo(float).tiny)
        return np.where(mine < 0, np.nan, mine), np.where(mine < 0, 1.0, mine / whole)


def _solve(scalable: ScalableChannels, layers: list[_Ranges]) -> FloatArray:
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
        if largest < _TOLERANCE:
            break
    return best


def _total(streams: list[tuple[IntArray, list[_Member]]]) -> float:
    return sum(_precision_sum(numbers, members) for numbers, members in streams)


def _members(scalable: ScalableChannels, layers: list[_Ranges]) -> dict[int, list[_Member]]:
    members: dict[int, list[_Member]] = {stream: [] for stream in scalable.streams.tolist()}
    for ranges in layers:
        for writes in (True, False):
            member = _Member(ranges, writes)
            for stream in set(scalable.streams[member.numbers[member.numbers >= 0]].tolist()):
                members[stream].append(member)
    return members


def _step(numbers: IntArray, members: list[_Member], before: FloatArray) -> FloatArray:
    """Equalize one stream; return the change of its factors' logarithms."""
    step = _optimal_step(numbers, members)
    step = np.clip(before[numbers] + step, -_BOUND, _BOUND) - before[numbers]
    factors = np.ones(len(before))
    factors[numbers] = np.exp(step)
    layers = {id(member.ranges): member.ranges for member in members}.values()
    kept, worth = [ranges.magnitudes for ranges in layers], _precision_sum(numbers, members)
    for ranges in layers:
        ranges.magnitudes = _scaled(ranges.layer, ranges.magnitudes, factors)
    if _precision_sum(numbers, members) >= worth * (1 - _ROUNDING):
        return step
    for ranges, magnitudes in zip(layers, kept, strict=True):
        ranges.magnitudes = magnitudes
    return np.zeros_like(step)


def _optimal_step(numbers: IntArray, members: list[_Member]) -> FloatArray:
    """The logarithm of the factor that minimizes each channel's sum of squared logarithmic ranges.

    A range of zero is replaced by the smallest nonzero range of its layer: scaling it has no effect
    there, and the channel's other ranges should not become larger than all others.
    """
    ranges = np.stack([member.by_factor(numbers)[0] for member in members])
    signs = np.array([[-1.0] if member.writes else [1.0] for member in members])
    present = ~np.isnan(ranges)
    least = np.where(ranges > 0, ranges, np.inf).min(1, keepdims=True)
    level = np.where(ranges > 0, ranges, np.where(np.isinf(least), 1.0, least))
    return np.asarray((signs * np.where(present, np.log(level), 0.0)).sum(0) / present.sum(0))


def _precision_sum(numbers: IntArray, members: list[_Member]) -> float:
    """The sum over the channels of the products of their precisions (equation 9)."""
    return float(np.prod([member.by_factor(numbers)[1] for member in members], axis=0).sum())


def _apply(program: Program, scalable: ScalableChannels, factors: FloatArray) -> None:
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
