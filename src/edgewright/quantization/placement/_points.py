"""Quantization points: the grids of a program, and the tensors on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from edgewright.quantization.scheme import Grid


@final
@dataclass(frozen=True)
class WeightPoint:
    """A weight that is stored as integers.

    Attributes:
        tensor: Name of the weight.
        layers: Names of the layers that read it with an integer kernel.
        grid: The grid of the weight.
        shape: Shape of the scale.
        readers: Names of the calls that read the dequantized weight and compute in floating point.
    """

    tensor: str
    layers: tuple[str, ...]
    grid: Grid
    shape: tuple[int, ...]
    readers: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class ValueUse:
    """A value of the program, and the names of the calls that read it quantized; None for all."""

    value: str
    readers: tuple[str, ...] | None


@final
@dataclass(frozen=True)
class ActivationPoint:
    """Values that share one grid and one scale.

    Attributes:
        name: Name of the first value.
        grid: The grid of the values.
        uses: The values and their readers, in program order.
        dynamic: Whether the scale is computed from each input at run time.
    """

    name: str
    grid: Grid
    uses: tuple[ValueUse, ...]
    dynamic: bool = False


@final
@dataclass(frozen=True)
class Placement:
    """Everything that is quantized in a program.

    Attributes:
        weights: Quantized weights, in program order.
        activations: First the values quantized for all readers, then those quantized for some
            readers only.
        skip_reasons: Why a weight stays in floating point, by name.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> from edgewright.quantization import Quantization, place, resolve
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                           torch.nn.Linear(8, 3))
        >>> placement = place(Program.capture(net, torch.zeros(1, 4)), resolve(Quantization()))
        >>> [point.tensor for point in placement.weights]
        ['0.weight', '2.weight']
        >>> [point.name for point in placement.activations]
        ['relu', 'input_1']
    """

    weights: tuple[WeightPoint, ...]
    activations: tuple[ActivationPoint, ...]
    skip_reasons: Mapping[str, str]
