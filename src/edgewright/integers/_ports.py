"""Floating point in the model's order of dimensions, and integers as a network stores them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.integers._steps import IntegerTensor, Port


def to_integers(values: NDArray[Any], port: Port, tensor: IntegerTensor) -> NDArray[Any]:
    """Quantize a batch for an input, as the program that the network was made from does.

    Args:
        values: Floating point, (N, *shape of the port).
        port: The input.
        tensor: Its stored tensor.

    Returns:
        Integers, (N, *stored shape).
    """
    limits = np.iinfo(tensor.dtype)
    steps = np.rint(values * np.float32(1 / tensor.scale)) + tensor.zero_point
    integers = np.clip(steps, limits.min, limits.max).astype(tensor.dtype)
    return np.ascontiguousarray(integers.transpose(0, *(1 + dim for dim in port.order)))


def from_integers(integers: NDArray[Any], port: Port, tensor: IntegerTensor) -> NDArray[Any]:
    """The values of a batch of an output's integers, in floating point and the model's order.

    Args:
        integers: Of the stored tensor, (N, *stored shape).
        port: The output.
        tensor: Its stored tensor.
    """
    values = ((integers.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(np.float32)
    back = np.argsort(port.order)
    return values.transpose(0, *(1 + int(place) for place in back))
