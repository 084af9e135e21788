"""Where a program is quantised: points, each a grid and what lies on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from edgewright.quantization.scheme import Grid


@final
@dataclass(frozen=True)
class WeightPoint:
    """A stored weight on a grid.

    Attributes:
        tensor: Its name.
        layers: Names of the layers whose kernels of integers read it.
        grid: Its integers.
        shape: Of the scale.
        readers: Names of the calls that read the numbers which the integers stand for, and compute
            in floating point.
    """

    tensor: str
    layers: tuple[str, ...]
    grid: Grid
    shape: tuple[int, ...]
    readers: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Place:
    """A value of the program, and who reads it quantised; None for everyone."""

    value: str
    readers: tuple[str, ...] | None


@final
@dataclass(frozen=True)
class ActivationPoint:
    """Values that lie on one grid, with one scale.

    Attributes:
        name: Of the first of them.
        grid: Its integers.
        places: Where, in the program's order.
        dynamic: The scale is not one, but taken from each input while running.
    """

    name: str
    grid: Grid
    places: tuple[Place, ...]
    dynamic: bool = False


@final
@dataclass(frozen=True)
class Placement:
    """All that is quantised in a program.

    Attributes:
        weights: By name, in the program's order.
        activations: What everyone reads first; then what some read with fewer bits from there.
        kept: Weights that stay in floating point, by name, and why.

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
    kept: Mapping[str, str]
