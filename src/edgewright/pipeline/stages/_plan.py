"""From a budget to the share of multiply-accumulates pruning has to remove."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from torch.fx import Node

from edgewright.allocation import CostModel, narrowest_widths, smallest, uniform
from edgewright.channels import (
    ChannelGroups,
    GroupWidths,
    LegalWidths,
    Polynomial,
    SymbolicShapes,
    Widths,
    compute_group_widths,
)
from edgewright.errors import BudgetError
from edgewright.graph import FLOAT_BITS
from edgewright.program import Program, parameter_nodes

# Share of a figure's limit that pruning aims at: the file's structure takes bytes of its own, and
# heads of early exits come on top.
_HEADROOM: Final = 0.9
_PACKED: Final = 0.8  # the least that a bundle's compression leaves of integer weights
_LEAST_FLOAT: Final = 8  # bits that a float is taken to need at least: many zeros pack well
_LEVELS: Final = 40


@dataclass(frozen=True)
class StoredBits:
    """How a file stores a program's tensors: in floating point, but for those that are named.

    Attributes:
        most: Bits of an entry of a tensor, at most.
        fewest: The same at least, if the bits are still to be chosen.
        most_bytes: Of all tensors together, whatever ``most`` comes to.

    Example:
        >>> StoredBits({"fc.weight": 8.0}, {"fc.weight": 2.0}, most_bytes=1e5).fewest
        {'fc.weight': 2.0}
    """

    most: Mapping[str, float] = field(default_factory=dict)
    fewest: Mapping[str, float] = field(default_factory=dict)
    most_bytes: float = math.inf


@dataclass(frozen=True)
class Plan:
    """What pruning has to do for the budget, all of it modelled.

    Attributes:
        ratio: Share of the multiply-accumulates to remove; 0 where nothing has to go.
        binding: The constraint that asks for it, or None.
        most: Share that can be removed at all, down to one step of channels in every group.
    """

    ratio: float
    binding: str | None
    most: float


def plan_ratio(program: Program, groups: ChannelGroups, limits: Mapping[str, float], *,
               energy_mj: float, stored: StoredBits, legal: LegalWidths) -> Plan:
    """The least pruning that holds the budget's modelled figures (size, macs, energy).

    Args:
        program: What is to be pruned.
        groups: Its channel groups.
        limits: From `Budget.limits`, in base units.
        energy_mj: Modelled energy of the program as the file will compute it, nothing pruned.
        stored: The bits that its tensors will have in the file.
        legal: The widths that pruning may leave.

    Raises:
        BudgetError: The smallest legal program breaks a limit already; it is named.
    """
    removed = smallest(groups, legal)
    least_macs, _ = groups.costs_without(removed)
    least_bytes = sum(_bytes(program, groups.shapes_without(removed), stored.fewest, _LEAST_FLOAT))
    _require(limits, {"size": _PACKED * least_bytes, "macs": least_macs})
    choices = compute_group_widths(groups, legal)
    macs = CostModel(program, groups, "macs")
    size = sum(_bytes(program, SymbolicShapes(groups), stored.most), Polynomial({}))
    modelled = {"macs": macs.full, "energy": energy_mj,
                "size": min(size.at(uniform(choices, 0.0)), stored.most_bytes)}
    needed = _needed(limits, modelled)
    most = 1 - least_macs / macs.full if macs.full else 0.0
    binding = min(needed, key=lambda name: needed[name], default=None)
    if not needed or not macs.full:
        return Plan(0.0, binding, most)
    most_macs = macs.full * min(needed.get("macs", 1.0), needed.get("energy", 1.0))
    most_bytes = modelled["size"] * needed["size"] if "size" in needed else math.inf
    widths = _widest(choices, lambda widths: (macs.at(widths) <= most_macs
                                              and size.at(widths) <= most_bytes))
    return Plan(1 - macs.at(widths) / macs.full, binding, most)


def _bytes(program: Program, shape: Callable[[Node], tuple[Any, ...]], bits: Mapping[str, float],
           otherwise: float = FLOAT_BITS) -> Iterator[Any]:
    """Bytes of each stored tensor with its shape from ``shape``."""
    return (math.prod(shape(node)) * (bits.get(str(node.target), otherwise) / 8)
            for node in parameter_nodes(program.graph))


def _require(limits: Mapping[str, float], floor: Mapping[str, float]) -> None:
    """Refuse limits that the smallest legal program breaks."""
    for name, value in floor.items():
        if name in limits and value > limits[name]:
            raise BudgetError(f"the budget cannot be met: {name} is limited to {limits[name]:.6g}, "
                              f"but the smallest program this model can be pruned to needs "
                              f"{value:.6g}; raise the limit or start from a smaller model")


def _needed(limits: Mapping[str, float], modelled: Mapping[str, float]) -> dict[str, float]:
    """The share that may be left of each figure that is above its limit."""
    shares = {name: _HEADROOM * limits[name] / value for name, value in modelled.items()
              if name in limits and value > 0}
    return {name: share for name, share in shares.items() if share < 1.0}


def _widest(choices: Sequence[GroupWidths], holds: Callable[[Widths], bool]) -> Widths:
    """The first widths that hold; the narrowest_widths where that is too little."""
    levels = (uniform(choices, level / _LEVELS) for level in range(1, _LEVELS))
    return next(filter(holds, levels), narrowest_widths(choices))
