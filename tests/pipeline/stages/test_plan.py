"""Planning: the least pruning whose modelled figures hold the limits."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgewright.allocation import Allocation, CostModel, allocate_channels
from edgewright.channels import ChannelGroups, LegalWidths, find_groups, remove_channels
from edgewright.errors import BudgetError
from edgewright.pipeline.stages import Plan, StoredBits, plan_ratio
from edgewright.program import Program

ENERGY = 3.0


def alike(program: Program, bits: int) -> dict[str, float]:
    """Every tensor at the same bits."""
    return dict.fromkeys(program.state_dict(), float(bits))


def plan(program: Program, groups: Any, limits: Any, bits: int = 8, round_to: int = 1) -> Plan:
    stored = alike(program, bits)
    return plan_ratio(program, groups, limits, energy_mj=ENERGY, stored=StoredBits(stored, stored),
                      legal=LegalWidths(round_to))


def counted(stem: Any, wide: Any, last: Any) -> Any:
    """MACs and parameters of the residual network, by hand, at 4 x 4 pixels."""
    weights = [stem * 2 * 9, stem * wide, wide * 9, wide * stem, stem * last]
    biases = stem + wide + wide + stem + last
    return SimpleNamespace(macs=16 * sum(weights) + 3 * last,
                           parameters=sum(weights) + biases + 3 * last + 3)


def at_level(level: Any, round_to: Any) -> Any:
    """Counts with a fortieth of every group's channels gone, ``level`` times."""
    kept = []
    for width in (12, 18, 7):
        wanted = width * (1 - level / 40)
        legal = [n for n in range(1, width + 1) if n % round_to == 0 or n == width]
        kept.append(min((abs(n - wanted), n) for n in legal)[1])
    return counted(*kept)


def test_costs_match_the_hand_count(residual: Program, residual_groups: ChannelGroups) -> None:
    costs = residual.costs()
    assert vars(counted(12, 18, 7)) == {"macs": costs.macs, "parameters": costs.parameters}
    by_name = {group.name: group.channels for group in residual_groups.groups}
    removed = [*by_name["stem.weight"][:3], *by_name["wide.weight"][:10], by_name["last.weight"][0]]
    left = remove_channels(residual, residual_groups, removed).costs()
    assert vars(counted(9, 8, 6)) == {"macs": left.macs, "parameters": left.parameters}


LIMITS = [
    {"macs": 0.5}, {"macs": 0.2}, {"size": 0.5}, {"energy": 0.4}, {"macs": 0.6, "size": 0.3},
    {"macs": 0.3, "size": 0.8, "energy": 0.9}, {"macs": 0.999},
]


@pytest.mark.parametrize("round_to", [1, 4])
@pytest.mark.parametrize("shares", LIMITS)
@pytest.mark.parametrize("bits", [8, 32])
def test_the_plan_is_the_least_pruning_that_meets_every_limit(residual: Program, residual_groups: ChannelGroups, shares: dict[str, Any], round_to: int,
                                                  bits: int) -> Any:
    costs = residual.costs()
    full = {"macs": costs.macs, "size": costs.parameters * bits / 8, "energy": ENERGY}
    limits = {name: share * full[name] for name, share in shares.items()}
    found = plan(residual, residual_groups, limits, bits, round_to)

    def holds(left: Any) -> Any:
        modelled = {"macs": left.macs, "size": left.parameters * bits / 8,
                    "energy": full["energy"] * left.macs / costs.macs}
        return all(modelled[name] <= 0.9 * limit + 1e-6 for name, limit in limits.items())

    levels = (at_level(level, round_to) for level in range(1, 41))
    least = next(left for left in levels if holds(left))
    assert found.binding == min(shares, key=shares.__getitem__)
    assert found.ratio == pytest.approx(1 - least.macs / costs.macs)
    assert found.most == pytest.approx(1 - at_level(40, round_to).macs / costs.macs)
    assert 0 < found.ratio < 1


@pytest.mark.parametrize("limits", [{}, {"latency": 0.1}, {"ram": 1.0, "accuracy": 0.99},
                                    {"macs": 1e12, "size": 1e12, "energy": 1e12}])
def test_nothing_is_pruned_without_a_binding_limit(residual: Program,
                                                   residual_groups: ChannelGroups,
                                                   limits: dict[str, Any]) -> None:
    most = 1 - at_level(40, 1).macs / counted(12, 18, 7).macs
    found = plan(residual, residual_groups, limits)
    assert (found.ratio, found.binding) == (0.0, None)
    assert found.most == pytest.approx(most)


def test_a_limit_below_the_smallest_program_is_named(residual: Program,
                                                     residual_groups: ChannelGroups) -> None:
    smallest = at_level(40, 1)
    for name, value in [("macs", smallest.macs), ("size", 0.8 * smallest.parameters)]:
        with pytest.raises(BudgetError) as caught:
            plan(residual, residual_groups, {name: value - 0.01})
        assert str(caught.value) == (
            f"the budget cannot be met: {name} is limited to {value - 0.01:.6g}, but the smallest "
            f"program this model can be pruned to needs {value:.6g}; raise the limit or start from "
            "a smaller model")
        assert plan(residual, residual_groups, {name: value}).binding == name


def test_if_only_the_headroom_is_missing_pruning_is_maximal(residual: Program,
                                                            residual_groups: ChannelGroups) -> None:
    smallest = at_level(40, 4)
    found = plan(residual, residual_groups, {"macs": smallest.macs}, round_to=4)
    assert found.ratio == pytest.approx(1 - smallest.macs / residual.costs().macs)


@pytest.mark.parametrize("method", ["uniform", "global", "solved"])
@pytest.mark.parametrize("share", [0.9, 0.55, 0.3, 0.12, 0.06])
def test_what_is_planned_can_be_allocated(residual: Program, residual_groups: ChannelGroups,
                                          method: Any, share: float) -> None:
    total = residual.costs().macs
    found = plan(residual, residual_groups, {"macs": share * total})
    scores = {c: float(c) for group in residual_groups.groups for c in group.channels}
    removed = allocate_channels(CostModel(residual, residual_groups, "macs"), scores,
                                Allocation(found.ratio, method))
    assert residual_groups.costs_without(removed)[0] <= 0.9 * share * total


def test_a_program_without_groups_can_be_planned(rigid: Program) -> None:
    groups = find_groups(rigid)
    assert plan(rigid, groups, {}) == Plan(0.0, None, 0.0)
    assert plan(rigid, groups, {"macs": 100}) == Plan(0.0, None, 0.0)
    assert plan(rigid, groups, {"macs": 12}) == Plan(0.0, "macs", 0.0)
    with pytest.raises(BudgetError, match=re.escape("macs is limited to 11, but the smallest "
                                                    "program this model can be pruned to needs 12")):
        plan(rigid, groups, {"macs": 11})


def test_a_program_without_macs_can_be_planned() -> None:
    program = Program.capture(torch.nn.BatchNorm1d(4), torch.zeros(2, 4))
    groups = find_groups(program)
    assert plan(program, groups, {"size": 7}) == Plan(0.0, "size", 0.0)
    assert plan(program, groups, {"size": 9}) == Plan(0.0, None, 0.0)


def by_tensor(**bits: Any) -> Any:
    return {f"{name}.weight": float(value) for name, value in bits.items()}


def test_every_tensor_is_counted_with_its_own_bits(residual: Program,
                                                   residual_groups: ChannelGroups) -> Any:
    bits = by_tensor(stem=8, wide=2, back=4)
    stored = StoredBits(bits, bits)
    state = residual.state_dict()
    whole = sum(tensor.numel() * bits.get(name, 32) / 8 for name, tensor in state.items())

    def needs(limit: Any) -> Any:
        return plan_ratio(residual, residual_groups, {"size": limit}, energy_mj=ENERGY,
                          stored=stored, legal=LegalWidths()).ratio

    assert needs(whole / 0.9 + 1) == 0.0
    assert needs(whole / 0.9 - 1) > 0.0


def test_undecided_bits_count_as_most_for_planning_and_as_fewest_for_limits(residual: Program,
                                                                            residual_groups: ChannelGroups) -> Any:
    most, fewest = alike(residual, 8), alike(residual, 2)
    count = residual.costs().parameters

    def planned(limit: Any, **limits: Any) -> Any:
        return plan_ratio(residual, residual_groups, {"size": limit}, energy_mj=ENERGY,
                          stored=StoredBits(most, fewest, **limits), legal=LegalWidths())

    assert planned(count).ratio > 0.0
    assert planned(count, most_bytes=0.9 * count) == Plan(0.0, None, planned(count).most)
    assert planned(count, most_bytes=0.95 * count).ratio == planned(count).ratio
    least = 0.8 * at_level(40, 1).parameters * 2 / 8
    assert planned(least).binding == "size"
    with pytest.raises(BudgetError, match="size is limited to"):
        planned(least - 0.1)
