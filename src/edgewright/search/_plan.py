"""From a budget to the share of multiply-accumulates pruning has to remove."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgewright.errors import BudgetError
from edgewright.program import ChannelGroups, Program
from edgewright.search._allocate import narrowest, smallest, uniform
from edgewright.search._cost_model import CostModel, Target
from edgewright.search._widths import widths_of

# Share of a figure's limit that pruning aims at: the file's structure takes bytes of its own, and
# heads of early exits come on top.
_HEADROOM: Final = 0.9
_PACKED: Final = 0.8  # the least that a bundle's compression leaves of integer weights
_LEVELS: Final = 40
_COUNTED: Final[tuple[Target, Target]] = ("macs", "params")


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
               original_energy_mj: float, weight_bits: int, round_to: int) -> Plan:
    """The least pruning that holds the budget's modelled figures (size, macs, energy).

    Args:
        program: What is to be pruned.
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
    most = 1 - macs / before_macs if before_macs else 0.0
    if not needed:
        return Plan(0.0, None, most)
    binding = min(needed, key=lambda name: needed[name])
    return Plan(_least(program, groups, needed, round_to) if before_macs else 0.0, binding, most)


def _shares(limits: Mapping[str, float], macs: float, size: float,
            energy: float) -> dict[str, float]:
    """The share of each figure that may be left."""
    modelled = {"macs": macs, "size": size, "energy": energy}
    return {name: _HEADROOM * limits[name] / value for name, value in modelled.items()
            if name in limits and value > 0}


def _least(program: Program, groups: ChannelGroups, needed: Mapping[str, float],
           round_to: int) -> float:
    """The share of the multiply-accumulates to remove; all that can go where that is too little."""
    macs, parameters = (CostModel(program, groups, target) for target in _COUNTED)
    most_parameters = needed.get("size", 1.0) * parameters.full
    most_macs = min(needed.get("macs", 1.0), needed.get("energy", 1.0)) * macs.full
    choices = widths_of(groups, round_to)
    for level in range(1, _LEVELS):
        widths = uniform(choices, level / _LEVELS)
        if macs.at(widths) <= most_macs and parameters.at(widths) <= most_parameters:
            return 1 - macs.at(widths) / macs.full
    return 1 - macs.at(narrowest(choices)) / macs.full
