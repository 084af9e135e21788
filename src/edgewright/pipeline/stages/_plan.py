"""Plan the share of multiply-accumulates that pruning has to remove to meet a budget."""

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

# Share of a figure's limit that pruning aims at, because the file's structure and the heads of
# early exits need additional bytes.
_HEADROOM: Final = 0.9
_PACKED_SHARE: Final = 0.8  # lower bound of the size of integer weights after compression
_MIN_FLOAT_BITS: Final = 8  # lower bound of the bits per float after compression: zeros pack well
_LEVELS: Final = 40


@dataclass(frozen=True)
class StoredBits:
    """How a file stores a program's tensors: in floating point, except for the named ones.

    Attributes:
        most: Maximum bits per entry, by tensor.
        fewest: Minimum bits per entry, by tensor, if the bits are still to be chosen.
        most_bytes: Upper limit of all tensors together, regardless of ``most``.

    Example:
        >>> StoredBits({"fc.weight": 8.0}, {"fc.weight": 2.0}, most_bytes=1e5).fewest
        {'fc.weight': 2.0}
    """

    most: Mapping[str, float] = field(default_factory=dict)
    fewest: Mapping[str, float] = field(default_factory=dict)
    most_bytes: float = math.inf


@dataclass(frozen=True)
class Plan:
    """What pruning has to remove for the budget, according to the cost model.

    Attributes:
        ratio: Share of the multiply-accumulates to remove; 0 if nothing has to be removed.
        binding: The limit that requires it, or None.
        most: Maximum share that can be removed, down to one step of channels in every group.
    """

    ratio: float
    binding: str | None
    most: float


def plan_ratio(program: Program, groups: ChannelGroups, limits: Mapping[str, float], *,
               energy_mj: float, stored: StoredBits, legal: LegalWidths) -> Plan:
    """The least pruning that meets the limits on modelled figures (size, macs, energy).

    Args:
        program: The program to prune.
        groups: Its channel groups.
        limits: Result of `Budget.limits`, in base units.
        energy_mj: Modelled energy of the unpruned program in the precision of the file.
        stored: The bits of its tensors in the file.
        legal: The widths that pruning may leave.

    Raises:
        BudgetError: Even the smallest legal program breaks a limit, which the message names.
    """
    removed = smallest(groups, legal)
    least_macs, _ = groups.costs_without(removed)
    least_bytes = sum(_bytes(program, groups.shapes_without(removed), stored.fewest,
                             _MIN_FLOAT_BITS))
    _check_limits(limits, {"size": _PACKED_SHARE * least_bytes, "macs": least_macs})
    choices = compute_group_widths(groups, legal)
    macs = CostModel(program, groups, "macs")
    size = sum(_bytes(program, SymbolicShapes(groups), stored.most), Polynomial({}))
    modelled = {"macs": macs.full, "energy": energy_mj,
                "size": min(size.at(uniform(choices, 0.0)), stored.most_bytes)}
    needed = _required_shares(limits, modelled)
    most = 1 - least_macs / macs.full if macs.full else 0.0
    binding = min(needed, key=lambda name: needed[name], default=None)
    if not needed or not macs.full:
        return Plan(0.0, binding, most)
    most_macs = macs.full * min(needed.get("macs", 1.0), needed.get("energy", 1.0))
    most_bytes = modelled["size"] * needed["size"] if "size" in needed else math.inf
    widths = _find_widest(choices, lambda widths: (macs.at(widths) <= most_macs
                                              and size.at(widths) <= most_bytes))
    return Plan(1 - macs.at(widths) / macs.full, binding, most)


def _bytes(program: Program, shape: Callable[[Node], tuple[Any, ...]], bits: Mapping[str, float],
           otherwise: float = FLOAT_BITS) -> Iterator[Any]:
    """Bytes of each stored tensor, with shapes from ``shape``."""
    return (math.prod(shape(node)) * (bits.get(str(node.target), otherwise) / 8)
            for node in parameter_nodes(program.graph))


def _check_limits(limits: Mapping[str, float], floor: Mapping[str, float]) -> None:
    """Raise if the smallest legal program breaks a limit."""
    for name, value in floor.items():
        if name in limits and value > limits[name]:
            raise BudgetError(f"the budget cannot be met: {name} is limited to {limits[name]:.6g}, "
                              f"but the smallest program this model can be pruned to needs "
                              f"{value:.6g}; raise the limit or start from a smaller model")


def _required_shares(limits: Mapping[str, float],
                     modelled: Mapping[str, float]) -> dict[str, float]:
    """The share that may remain of each figure that is above its limit."""
    shares = {name: _HEADROOM * limits[name] / value for name, value in modelled.items()
              if name in limits and value > 0}
    return {name: share for name, share in shares.items() if share < 1.0}


def _find_widest(choices: Sequence[GroupWidths], holds: Callable[[Widths], bool]) -> Widths:
    """The first widths that satisfy ``holds``, else the narrowest."""
    levels = (uniform(choices, level / _LEVELS) for level in range(1, _LEVELS))
    return next(filter(holds, levels), narrowest_widths(choices))
