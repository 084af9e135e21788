"""What an integer network computes, step by step, in numpy: the definition that kernels match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.integers._network import IntegerNetwork
from edgewright.integers._rounding import scale_integers
from edgewright.integers._steps import (
    AveragePool,
    Convolution,
    Copy,
    IntegerTensor,
    Lookup,
    MaximumPool,
    Product,
    Sum,
    Window,
)

Integers = NDArray[np.int64]


def run_reference(network: IntegerNetwork,
                  inputs: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
    """Compute the outputs of a batch.

    Args:
        network: The network.
        inputs: Integers per input, (N, *stored shape), in the network's order.

    Returns:
        Integers per output, (N, *stored shape).
    """
    stored = {port.tensor: array for port, array in zip(network.structure.inputs, inputs,
                                                        strict=True)}
    for step in network.steps:
        output = network.tensors[step.output]
        found = _STEPS[type(step)](step, network, stored)
        stored[step.output] = found.reshape(-1, *output.shape).astype(output.dtype)
    return tuple(stored[port.tensor].reshape(-1, *port.stored_shape)
                 for port in network.structure.outputs)


def run_exits(network: IntegerNetwork, inputs: Sequence[NDArray[Any]],
              ) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Compute the output of the exit where each sample leaves.

    Args:
        network: A network with exits.
        inputs: As in `run_reference`.

    Returns:
        Integers, (N, *stored shape), and the number of the exit, (N,).
    """
    outputs = run_reference(network, inputs)
    taken = np.full(len(inputs[0]), len(outputs) - 1, np.intp)
    for number, test in reversed(list(enumerate(network.structure.exits))):
        if test is not None:
            taken[test.is_sure(outputs[number].reshape(len(taken), -1))] = number
    return np.stack(outputs)[taken, np.arange(len(taken))], taken


def _convolve(step: Convolution, network: IntegerNetwork,
              stored: Mapping[str, NDArray[Any]]) -> Integers:
    image = _centred(step.input, network, stored).reshape(-1, *step.window.inputs)
    weight, bias, factors, shifts = (network.constants[name].astype(np.int64) for name in (
        step.weight, step.bias, step.factors, step.shifts))
    patches = _patches(image, step.window, 0)  # (N, height, width, taps, channels)
    count, height, width, taps, channels = patches.shape
    grouped = patches.reshape(count, height, width, taps, step.groups, channels // step.groups)
    grouped = np.moveaxis(grouped, 4, 0).reshape(step.groups, count * height * width, -1)
    rows = weight.reshape(step.groups, len(weight) // step.groups, -1)
    # exact in double precision: the sums have at most 31 bits
    sums = np.matmul(grouped.astype(np.float64), np.swapaxes(rows, 1, 2).astype(np.float64))
    sums = np.moveaxis(sums, 0, 1).reshape(count, height, width, len(weight)).astype(np.int64)
    return _clamp(scale_integers(sums * step.finer_by + bias, factors, shifts), step, network)


def _add(step: Sum, network: IntegerNetwork, stored: Mapping[str, NDArray[Any]]) -> Integers:
    first, second = _pair(step.inputs, network, stored)
    return _clamp(scale_integers(first * step.factors[0] + second * step.factors[1], 1,
                                 step.shift), step, network)


def _multiply(step: Product, network: IntegerNetwork,
              stored: Mapping[str, NDArray[Any]]) -> Integers:
    first, second = _pair(step.inputs, network, stored)
    return _clamp(scale_integers(first * second, step.factor, step.shift), step, network)


def _look_up(step: Lookup, network: IntegerNetwork,
             stored: Mapping[str, NDArray[Any]]) -> Integers:
    values = stored[step.input]
    found: Integers = network.constants[step.table].astype(np.int64)[
        values.astype(np.int64) - np.iinfo(values.dtype).min]
    return found


def _average(step: AveragePool, network: IntegerNetwork,
             stored: Mapping[str, NDArray[Any]]) -> Integers:
    image = _centred(step.input, network, stored).reshape(-1, *step.window.inputs)
    sums = _patches(image, step.window, 0).sum(axis=3)
    height, width, _ = step.window.outputs
    factors, shifts = (
        np.broadcast_to(network.constants[name].astype(np.int64), (height * width,)).reshape(
            height, width, 1) for name in (step.factors, step.shifts))
    return _clamp(scale_integers(sums, factors, shifts), step, network)


def _maximum(step: MaximumPool, network: IntegerNetwork,
             stored: Mapping[str, NDArray[Any]]) -> Integers:
    image = stored[step.input].astype(np.int64).reshape(-1, *step.window.inputs)
    lowest = int(np.iinfo(network.tensors[step.input].dtype).min)
    found: Integers = _patches(image, step.window, lowest).max(axis=3)
    return found


def _copy(step: Copy, network: IntegerNetwork, stored: Mapping[str, NDArray[Any]]) -> Integers:
    count = len(next(iter(stored.values())))
    output = network.tensors[step.output]
    found = np.full((count, output.size), step.fill or 0, np.int64)
    for part in step.parts:
        places_in, places_out = (_places(part.sizes, steps, start) for steps, start in (
            (part.steps_in, part.start_in), (part.steps_out, part.start_out)))
        found[:, places_out] = stored[part.input].reshape(count, -1)[:, places_in]
    return found


_STEPS: dict[type, Any] = {
    Convolution: _convolve, Sum: _add, Product: _multiply, Lookup: _look_up,
    AveragePool: _average, MaximumPool: _maximum, Copy: _copy}


def _centred(name: str, network: IntegerNetwork,
             stored: Mapping[str, NDArray[Any]]) -> Integers:
    centred: Integers = stored[name].astype(np.int64) - network.tensors[name].zero_point
    return centred


def _pair(names: tuple[str, str], network: IntegerNetwork,
          stored: Mapping[str, NDArray[Any]]) -> tuple[Integers, Integers]:
    """Two tensors as (N, repeats, size of the second)."""
    first, second = (_centred(name, network, stored) for name in names)
    size = network.tensors[names[1]].size
    return first.reshape(len(first), -1, size), second.reshape(len(second), 1, size)


def _clamp(scaled: Integers, step: Any, network: IntegerNetwork) -> Integers:
    output: IntegerTensor = network.tensors[step.output]
    clamped: Integers = np.clip(scaled + output.zero_point, step.low, step.high)
    return clamped


def _patches(image: Integers, window: Window, padding: int) -> Integers:
    """The elements of every window, (N, height, width, taps, channels)."""
    rows, columns = (np.array(places) for places in (window.rows(), window.columns()))
    height, width, _ = window.inputs
    outside_rows, outside_columns = ((rows < 0) | (rows >= height),
                                     (columns < 0) | (columns >= width))
    taken = image[:, np.clip(rows, 0, height - 1)[:, None, :, None],
                  np.clip(columns, 0, width - 1)[None, :, None, :]]
    outside = outside_rows[:, None, :, None] | outside_columns[None, :, None, :]
    taken = np.where(outside[None, ..., None], padding, taken)
    return taken.reshape(*taken.shape[:3], -1, taken.shape[-1])


def _places(sizes: tuple[int, ...], steps: tuple[int, ...], start: int) -> NDArray[np.int64]:
    """The element numbers of a block."""
    places = np.full(1, start, np.int64)
    for size, step in zip(sizes, steps, strict=True):
        places = (places[:, None] + step * np.arange(size)).reshape(-1)
    return places
