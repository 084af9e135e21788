"""Optimal bits for each layer under limits on size, bit operations and latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgewright.allocation._milp import MixedIntegerProgram
from edgewright.core import format_count, format_size
from edgewright.errors import UsageError

PrecisionCost: TypeAlias = Literal["size_bytes", "bit_ops", "latency_ms"]
COSTS: Final[tuple[PrecisionCost, ...]] = ("size_bytes", "bit_ops", "latency_ms")

_MAX_LOSS: Final = 1e3  # the largest loss is scaled to this: the solver's absolute gap is 1e-6
_ROUNDING: Final = 1e-12  # tolerance for a limit that was computed from the cost it limits
_MAX_CUTS: Final = 20   # number of solutions to reject that exceed a limit within the solver's gap


@dataclass(frozen=True)
class PrecisionOption:
    """One way to store and compute a layer.

    Attributes:
        weights: Bits of its weights; None for floating point.
        activations: Bits of the activations it reads; None for floating point.
        loss: Predicted increase of the loss.
        size_bytes: Size of its weights, with scales and biases.
        bit_ops: Multiply-accumulates times bits of weights times bits of activations.
        latency_ms: Its latency.
    """

    weights: int | None
    activations: int | None
    loss: float
    size_bytes: float = 0.0
    bit_ops: float = 0.0
    latency_ms: float = 0.0


@dataclass(frozen=True)
class PrecisionLimits:
    """Limits on the total cost of all layers; None for no limit.

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
    """Layers that must have the same bits.

    Attributes:
        weights: Sets of layers that must have the same bits of weights.
        activations: Sets of layers that must read activations of the same bits, because they read
            the same value.
    """

    weights: Sequence[Sequence[str]] = ()
    activations: Sequence[Sequence[str]] = ()


Layers: TypeAlias = Mapping[str, Sequence[PrecisionOption]]
Chosen: TypeAlias = dict[str, PrecisionOption]


def allocate_precisions(layers: Layers, limits: PrecisionLimits,
                        ties: Ties = Ties()) -> Chosen:
    """Choose one option per layer so that the summed loss is minimal under all limits.

    This is the integer program of HAWQ-V3 (Yao et al. 2021), a multiple-choice knapsack with a
    binary variable for each option of each layer, here with ties between layers. The result is
    checked to satisfy the limits within a relative 1e-12; its summed loss is minimal within a
    billionth of the largest loss.

    Args:
        layers: The options of every layer.
        limits: Limits on the total cost of the chosen options.
        ties: Layers that must have the same bits.

    Raises:
        UsageError: No choice satisfies a limit (the message has the smallest possible cost), a
            layer has no options, or a tie names an unknown layer.

    Example:
        >>> def at(bits, loss):
        ...     return PrecisionOption(bits, 8, loss, size_bytes=10 * bits)
        >>> layers = {"stem": [at(8, 0.1), at(4, 9.0)], "body": [at(8, 0.1), at(4, 0.3)]}
        >>> chosen = allocate_precisions(layers, PrecisionLimits(size_bytes=120))
        >>> {name: option.weights for name, option in chosen.items()}
        {'stem': 8, 'body': 4}
    """
    _check(layers, ties)
    smallest = _check_reachable(layers, limits, ties)
    losses = [np.array([option.loss for option in options]) for options in layers.values()]
    best = _minimize(layers, losses, limits, ties)
    found = [choice for choice in (best, smallest) if choice is not None]
    return min(found, key=lambda choice: sum(option.loss for option in choice.values()))


def total_cost(chosen: Mapping[str, PrecisionOption], name: PrecisionCost) -> float:
    """The total cost of the chosen options.

    Example:
        >>> total_cost({"a": PrecisionOption(8, 8, 0.0, bit_ops=64.0)}, "bit_ops")
        64.0
    """
    return float(sum(getattr(option, name) for option in chosen.values()))


def _check(layers: Layers, ties: Ties) -> None:
    if not layers:
        raise UsageError("there are no layers whose precision could be chosen")
    empty = [name for name, options in layers.items() if not options]
    if empty:
        raise UsageError(f"layer {empty[0]!r} has no precision to choose from; add an option")
    unknown = sorted({name for tied in (*ties.weights, *ties.activations) for name in tied}
                     - layers.keys())
    if unknown:
        raise UsageError(f"{unknown[0]!r} is tied to others but is not a layer; layers: "
                         f"{', '.join(layers)}")


def _check_reachable(layers: Layers, limits: PrecisionLimits, ties: Ties) -> Chosen:
    """A choice that satisfies every limit; if there is none, refuse the first impossible limit.

    Each limit is compared with the smallest cost that is possible under the limits before it.
    """
    chosen = _minimize(layers, _costs(layers, "size_bytes"), PrecisionLimits(), ties)
    if chosen is None:
        raise UsageError("no choice of precisions gives tied layers the same bits; let layers that "
                         "share a value or a weight choose from the same bits")
    earlier = PrecisionLimits()
    for name, limit in _given_limits(limits).items():
        chosen = _minimize(layers, _costs(layers, name), earlier, ties) or chosen
        minimum = total_cost(chosen, name)
        if not _within(minimum, limit):
            others = "".join(f" with {_format_cost(*other)}"
                             for other in _given_limits(earlier).items())
            raise UsageError(
                f"no choice of precisions satisfies {_format_cost(name, limit)}{others}: the "
                f"smallest possible is {_format_cost(name, minimum)}; raise the limit, or allow "
                "fewer bits")
        earlier = replace(earlier, **{name: limit})
    return chosen


def _given_limits(limits: PrecisionLimits) -> dict[PrecisionCost, float]:
    return {name: limit for name in COSTS if (limit := getattr(limits, name)) is not None}


def _format_cost(name: PrecisionCost, value: float) -> str:
    if name == "latency_ms":
        return f"{name} = {value:.6g}"
    read = format_size(value) if name == "size_bytes" else format_count(value)
    return f"{name} = {value:.9g} ({read})"


def _within(cost: float, limit: float) -> bool:
    return cost <= limit + _ROUNDING * abs(limit)


def _costs(layers: Layers, name: PrecisionCost) -> list[NDArray[np.float64]]:
    return [np.array([getattr(option, name) for option in options], dtype=np.float64)
            for options in layers.values()]


def _minimize(layers: Layers, penalties: Sequence[NDArray[np.float64]], limits: PrecisionLimits,
               ties: Ties) -> Chosen | None:
    """The choice with the smallest summed penalty that satisfies the limits, or None."""
    largest = max((float(np.abs(values).max()) for values in penalties), default=0.0) or 1.0
    program = MixedIntegerProgram()
    selected = dict(zip(layers, (  # divided first: a subnormal loss has no reciprocal
        program.variables(-_MAX_LOSS * (values / largest), integer=True) for values in penalties),
        strict=True))
    for binaries in selected.values():
        program.row(binaries, np.ones(len(binaries)), low=1.0, high=1.0)
    _tie(program, selected, layers, ties)
    for name, limit in _given_limits(limits).items():
        unit = abs(limit) or 1.0
        program.row(np.concatenate(list(selected.values())),
                    np.concatenate(_costs(layers, name)) / unit, high=limit / unit)
    for _ in range(_MAX_CUTS):
        found = program.solve(gap=0.0)
        if found is None:
            return None
        indices = {name: int(found.x[binaries].argmax()) for name, binaries in selected.items()}
        chosen = {name: layers[name][place] for name, place in indices.items()}
        if all(_within(total_cost(chosen, name), limit)
               for name, limit in _given_limits(limits).items()):
            return chosen
        ones = np.array([selected[name][place] for name, place in indices.items()])
        program.row(ones, np.ones(len(ones)), high=len(ones) - 1.0)
    return None


def _tie(program: MixedIntegerProgram, selected: Mapping[str, NDArray[np.int64]], layers: Layers,
         ties: Ties) -> None:
    """Add constraints that tied layers have the same number of bits."""
    for kind, sets in (("weights", ties.weights), ("activations", ties.activations)):
        for first, second in (pair for tied in sets for pair in pairwise(tied)):
            bits = [np.array([getattr(option, kind) or 0 for option in layers[name]])
                    for name in (first, second)]
            indices = np.concatenate([selected[first], selected[second]])
            for value in np.union1d(*bits):
                signs = np.concatenate([bits[0] == value, -1.0 * (bits[1] == value)])
                program.row(indices, signs, low=0.0, high=0.0)
