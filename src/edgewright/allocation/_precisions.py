"""How many bits each layer gets, exactly, under limits on size, bit operations and latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgewright.allocation._milp import MixedInteger
from edgewright.core import format_count, format_size
from edgewright.errors import UsageError

Cost: TypeAlias = Literal["size_bytes", "bit_ops", "latency_ms"]
COSTS: Final[tuple[Cost, ...]] = ("size_bytes", "bit_ops", "latency_ms")

_LARGEST: Final = 1e3   # what the largest loss is scaled to: the solver's gap is 1e-6, absolute
_ROUNDING: Final = 1e-12  # of a limit that was computed from the very cost it limits
_CUTS: Final = 20       # choices over a limit by less than the solver sees before it is given up


@dataclass(frozen=True)
class PrecisionOption:
    """One way to store and compute a layer.

    Attributes:
        weights: Bits of its weights; None for floating point.
        activations: Bits of what it reads; None for floating point.
        loss: How much the loss is predicted to rise.
        size_bytes: Of its weights, with scales and biases.
        bit_ops: Multiply-accumulates times bits of weights times bits of activations.
        latency_ms: What it takes.
    """

    weights: int | None
    activations: int | None
    loss: float
    size_bytes: float = 0.0
    bit_ops: float = 0.0
    latency_ms: float = 0.0


@dataclass(frozen=True)
class PrecisionLimits:
    """The most that all layers together may cost; None for no limit.

    Attributes:
        size_bytes: Bytes of the weights.
        bit_ops: Bit operations.
        latency_ms: Milliseconds.
    """

    size_bytes: float | None = None
    bit_ops: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class Ties:
    """Layers that cannot be chosen apart.

    Attributes:
        weights: Sets of layers that have to have the same bits of weights.
        activations: Sets of layers that have to read the same bits, for they read one value.
    """

    weights: Sequence[Sequence[str]] = ()
    activations: Sequence[Sequence[str]] = ()


Layers: TypeAlias = Mapping[str, Sequence[PrecisionOption]]
Chosen: TypeAlias = dict[str, PrecisionOption]


def allocate_precisions(layers: Layers, limits: PrecisionLimits,
                        ties: Ties = Ties()) -> Chosen:
    """One option for each layer, so that their losses add up to the least under every limit.

    The integer program of HAWQ-V3 (Yao et al. 2021), a multiple-choice knapsack: a binary for each
    option of each layer, and here ties between layers. What is returned has been added up and holds
    the limits to a relative 1e-12; its summed loss is the least to a billionth of the largest loss.

    Args:
        layers: The options of every layer.
        limits: What the chosen options may cost together.
        ties: Layers that cannot be chosen apart.

    Raises:
        UsageError: No choice holds a limit, and what the smallest costs; a layer without options;
            a tie with a layer that is not there.

    Example:
        >>> def at(bits, loss):
        ...     return PrecisionOption(bits, 8, loss, size_bytes=10 * bits)
        >>> layers = {"stem": [at(8, 0.1), at(4, 9.0)], "body": [at(8, 0.1), at(4, 0.3)]}
        >>> chosen = allocate_precisions(layers, PrecisionLimits(size_bytes=120))
        >>> {name: option.weights for name, option in chosen.items()}
        {'stem': 8, 'body': 4}
    """
    _check(layers, ties)
    smallest = _smallest(layers, limits, ties)
    losses = [np.array([option.loss for option in options]) for options in layers.values()]
    best = _minimised(layers, losses, limits, ties)
    found = [choice for choice in (best, smallest) if choice is not None]
    return min(found, key=lambda choice: sum(option.loss for option in choice.values()))


def total_cost(chosen: Mapping[str, PrecisionOption], name: Cost) -> float:
    """What the chosen options cost together.

    Example:
        >>> total_cost({"a": PrecisionOption(8, 8, 0.0, bit_ops=64.0)}, "bit_ops")
        64.0
    """
    return float(sum(getattr(option, name) for option in chosen.values()))


def _check(layers: Layers, ties: Ties) -> None:
    if not layers:
        raise UsageError("there is no layer whose precision could be chosen")
    empty = [name for name, options in layers.items() if not options]
    if empty:
        raise UsageError(f"layer {empty[0]!r} has no precision to choose from; give it one")
    unknown = sorted({name for tied in (*ties.weights, *ties.activations) for name in tied}
                     - layers.keys())
    if unknown:
        raise UsageError(f"{unknown[0]!r} is tied to others but is no layer; there are: "
                         f"{', '.join(layers)}")


def _smallest(layers: Layers, limits: PrecisionLimits, ties: Ties) -> Chosen:
    """A choice that holds every limit; where there is none, the one that cannot be held is named.

    Each limit is compared with the smallest cost that is left beside those before it.
    """
    chosen = _minimised(layers, _costs(layers, "size_bytes"), PrecisionLimits(), ties)
    if chosen is None:
        raise UsageError("no choice of precisions gives tied layers the same bits; let layers that "
                         "share a value or a weight choose from the same bits")
    held = PrecisionLimits()
    for name, limit in _set(limits).items():
        chosen = _minimised(layers, _costs(layers, name), held, ties) or chosen
        least = total_cost(chosen, name)
        if not _within(least, limit):
            beside = "".join(f" beside {_told(*other)}" for other in _set(held).items())
            raise UsageError(
                f"no choice of precisions holds {_told(name, limit)}{beside}: the smallest that "
                f"can be reached is {_told(name, least)}; raise the limit, or allow fewer bits")
        held = replace(held, **{name: limit})
    return chosen


def _set(limits: PrecisionLimits) -> dict[Cost, float]:
    return {name: limit for name in COSTS if (limit := getattr(limits, name)) is not None}


def _told(name: Cost, value: float) -> str:
    if name == "latency_ms":
        return f"{name} = {value:.6g}"
    read = format_size(value) if name == "size_bytes" else format_count(value)
    return f"{name} = {value:.9g} ({read})"


def _within(cost: float, limit: float) -> bool:
    return cost <= limit + _ROUNDING * abs(limit)


def _costs(layers: Layers, name: Cost) -> list[NDArray[np.float64]]:
    return [np.array([getattr(option, name) for option in options], dtype=np.float64)
            for options in layers.values()]


def _minimised(layers: Layers, penalties: Sequence[NDArray[np.float64]], limits: PrecisionLimits,
               ties: Ties) -> Chosen | None:
    """The choice with the least summed penalty that holds the limits, or None."""
    largest = max((float(np.abs(values).max()) for values in penalties), default=0.0)
    scale = _LARGEST / largest if largest > 0 else 1.0
    program = MixedInteger()
    taken = dict(zip(layers, (program.variables(-values * scale, integer=True)
                              for values in penalties), strict=True))
    for binaries in taken.values():
        program.row(binaries, np.ones(len(binaries)), low=1.0, high=1.0)
    _tie(program, taken, layers, ties)
    for name, limit in _set(limits).items():
        unit = abs(limit) or 1.0
        program.row(np.concatenate(list(taken.values())),
                    np.concatenate(_costs(layers, name)) / unit, high=limit / unit)
    for _ in range(_CUTS):
        x = program.solve(gap=0.0)
        if x is None:
            return None
        places = {name: int(x[binaries].argmax()) for name, binaries in taken.items()}
        chosen = {name: layers[name][place] for name, place in places.items()}
        if all(_within(total_cost(chosen, name), limit) for name, limit in _set(limits).items()):
            return chosen
        ones = np.array([taken[name][place] for name, place in places.items()])
        program.row(ones, np.ones(len(ones)), high=len(ones) - 1.0)
    return None


def _tie(program: MixedInteger, taken: Mapping[str, NDArray[np.int64]], layers: Layers,
         ties: Ties) -> None:
    """Tied layers take each number of bits together or not at all."""
    for kind, sets in (("weights", ties.weights), ("activations", ties.activations)):
        for first, second in (pair for tied in sets for pair in pairwise(tied)):
            bits = [np.array([getattr(option, kind) or 0 for option in layers[name]])
                    for name in (first, second)]
            indices = np.concatenate([taken[first], taken[second]])
            for value in np.union1d(*bits):
                signs = np.concatenate([bits[0] == value, -1.0 * (bits[1] == value)])
                program.row(indices, signs, low=0.0, high=0.0)
