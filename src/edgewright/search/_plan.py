"""From a budget to the share of multiply-accumulates pruning has to remove."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgewright.errors import BudgetError
from edgewright.program import ChannelGroups
from edgewright.search._allocate import select_uniform, smallest

# Share of a figure's limit that pruning aims at: the file's structure takes bytes of its own, and
# heads of early exits come on top.
_HEADROOM: Final = 0.9
_PACKED: Final = 0.8  # the least that a bundle's compression leaves of integer weights
_LEVELS: Final = 40


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


def plan_ratio(groups: ChannelGroups, limits: Mapping[str, float], *,
               original_energy_mj: float, weight_bits: int, round_to: int) -> Plan:
    """The least pruning that holds the budget's modelled figures (size, macs, energy).

    Args:
        groups: Its channel groups.
        limits: From `Budget.limits`, in base units.
        original_energy_mj: Modelled energy of the original.
        weight_bits: Bits a weight has in the file.
        round_to: As in the pruning.

    Raises:
        BudgetError: The smallest legal program breaks a limit already; it is named.
    """
    before_macs, before_parameters = groups.costs_without([])
    macs, parameters = smallest(groups, round_to)
    floor = {"size": _PACKED * parameters * min(weight_bits, 8) / 8, "macs": float(macs)}
    for name, value in floor.items():
        if name in limits and value > limits[name]:
            raise BudgetError(f"the budget cannot be met: {name} is limited to {limits[name]:.6g}, "
                              f"but the smallest program this model can be pruned to needs "
                              f"{value:.6g}; raise the limit or start from a smaller model")
    shares = _shares(limits, before_macs, before_parameters * weight_bits / 8,
                     original_energy_mj * weight_bits / 32)
    needed = {name: share for name, share in shares.items() if share < 1.0}
    if not needed:
        return Plan(0.0, None, 1 - macs / before_macs if before_macs else 0.0)
    return _least(groups, needed, round_to)


def _shares(limits: Mapping[str, float], macs: float, size: float,
            energy: float) -> dict[str, float]:
    """The share of each figure that may be left."""
    modelled = {"macs": macs, "size": size, "energy": energy}
    return {name: _HEADROOM * limits[name] / value for name, value in modelled.items()
            if name in limits and value > 0}


def _least(groups: ChannelGroups, needed: Mapping[str, float],
           round_to: int) -> Plan:
    binding = min(needed, key=lambda name: needed[name])
    most_parameters = needed.get("size", 1.0)
    most_macs = min(needed.get("macs", 1.0), needed.get("energy", 1.0))
    before_macs, before_parameters = groups.costs_without([])
    if before_macs == 0:
        return Plan(0.0, binding, 0.0)
    ratio = 0.0
    for level in range(1, _LEVELS + 1):
        removed = select_uniform(groups, level / _LEVELS, round_to)
        macs, parameters = groups.costs_without(removed)
        ratio = 1 - macs / before_macs
        if macs <= most_macs * before_macs and parameters <= most_parameters * before_parameters:
            break
    return Plan(ratio, binding, 1 - smallest(groups, round_to)[0] / before_macs)
