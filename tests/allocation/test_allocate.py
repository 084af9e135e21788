"""Allocation: enough goes and little more, against a search that tries every strictness."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from edgewright.allocation import (
    Allocation,
    CostModel,
    allocate_channels,
    require_reachable,
    select_uniform,
    smallest,
)
from edgewright.channels import ChannelGroups, LegalWidths, find_groups, remove_channels
from edgewright.errors import UsageError
from edgewright.program import Program

SLOW = settings(max_examples=40, deadline=None, derandomize=True,
                suppress_health_check=[HealthCheck.function_scoped_fixture])
WIDTHS = {"stem.weight": 12, "wide.weight": 18, "last.weight": 7}


def channels_of(groups: Any) -> Any:
    return [channel for group in groups.groups for channel in group.channels]


def drawn(groups: Any, seed: int, ties: bool = False) -> Any:
    rng = np.random.default_rng(seed)
    names = channels_of(groups)
    values = rng.integers(0, 3, len(names)) if ties else rng.random(len(names)) + 0.01
    return dict(zip(names, values.tolist(), strict=True))


def allocate(program: Program, groups: Any, scores: Any, target: Any = "macs",
             **options: Any) -> Any:
    legal = LegalWidths(options.pop("round_to", 4), options.pop("least", 0.0))
    return allocate_channels(CostModel(program, groups, target), scores,
                             Allocation(**{"ratio": 0.4, "legal": legal, **options}))


def left(groups: Any, removed: Any) -> Any:
    gone = set(removed)
    return {group.name: sum(channel not in gone for channel in group.channels)
            for group in groups.groups}


def cost(program: Program, groups: Any, removed: Any, target: Any) -> Any:
    macs, parameters = groups.costs_without(removed)
    return {"macs": macs, "params": parameters,
            "channels": len(channels_of(groups)) - len(removed)}[target]


def legal(kept: Any, width: Any, step: Any) -> Any:
    choices = [n for n in range(1, width + 1) if n % step == 0 or n == width]
    return min(choices, key=lambda n: (abs(n - kept), n))


def lowest(group: Any, scores: Any, count: int) -> Any:
    order = sorted(group.channels, key=lambda c: (scores[c], group.channels.index(c)))
    return order[:count]


def reference_global(program: Program, groups: Any, scores: Any, target: Any, ratio: Any,
                     step: Any) -> Any:
    """Take channels away one by one, lowest relative score first, until enough is gone."""
    pool = []
    for index, group in enumerate(groups.groups):
        mean = sum(scores[c] for c in group.channels) / len(group.channels)
        ranks = lowest(group, scores, len(group.channels))
        pool += [(scores[c] / mean if mean > 0 else scores[c], ranks.index(c) / len(ranks), index)
                 for c in group.channels]
    order = [index for *_, index in sorted(pool)]
    before = cost(program, groups, [], target)
    for taken in range(len(order) + 1):
        wanted = Counter(order[:taken])
        removed = []
        for index, group in enumerate(groups.groups):
            width = len(group.channels)
            kept = legal(width - wanted[index], width, step)
            removed += lowest(group, scores, width - kept)
        if cost(program, groups, removed, target) <= before * (1 - ratio) + 1e-6:
            return removed
    return None


@SLOW
@given(seed=st.integers(0, 999), ties=st.booleans(), step=st.sampled_from([1, 2, 3, 4, 8]),
       ratio=st.floats(0.01, 0.99), target=st.sampled_from(["macs", "params", "channels"]))
def test_global_is_what_taking_them_one_by_one_gives(residual: Program, residual_groups: ChannelGroups, seed: Any, ties: Any, step: Any,
                                                     ratio: Any, target: Any) -> None:
    scores = drawn(residual_groups, seed, ties)
    options = {"target": target, "ratio": ratio, "round_to": step}
    want = reference_global(residual, residual_groups, scores, target, ratio, step)
    if want is None:
        with pytest.raises(UsageError, match="cannot remove"):
            allocate(residual, residual_groups, scores, **options)
    else:
        assert sorted(allocate(residual, residual_groups, scores, **options)) == sorted(want)


@SLOW
@given(seed=st.integers(0, 999), step=st.sampled_from([1, 2, 3, 4, 8]),
       ratio=st.floats(0.01, 0.99), method=st.sampled_from(["uniform", "global"]),
       target=st.sampled_from(["macs", "params", "channels"]))
def test_the_goal_is_reached_and_one_step_less_would_miss_it(residual: Program, residual_groups: ChannelGroups, seed: Any, step: Any,
                                                             ratio: Any, method: Any, target: Any) -> None:
    scores = drawn(residual_groups, seed)
    before = cost(residual, residual_groups, [], target)
    goal = before * (1 - ratio) + 1e-6
    try:
        removed = allocate(residual, residual_groups, scores, target=target, ratio=ratio,
                           method=method, round_to=step)
    except UsageError:
        macs, parameters = residual_groups.costs_without(smallest(residual_groups, LegalWidths(step)))
        assert target == "channels" or {"macs": macs, "params": parameters}[target] > goal
        return
    assert cost(residual, residual_groups, removed, target) <= goal
    for name, kept in left(residual_groups, removed).items():
        assert 1 <= kept <= WIDTHS[name]
        assert kept % step == 0 or kept == WIDTHS[name]
    restored = [restore(group, removed, scores, step) for group in residual_groups.groups]
    if method == "uniform":
        restored = [set.intersection(*restored)]
    assert any(cost(residual, residual_groups, sorted(fewer), target) > goal for fewer in restored)


def restore(group: Any, removed: Any, scores: Any, step: Any) -> Any:
    """``removed`` without the most important of this group's, a step of them."""
    mine = lowest(group, scores, sum(channel in set(removed) for channel in group.channels))
    width = len(group.channels)
    back = step - (width - len(mine)) % step  # to the next multiple, or to the whole group
    return set(removed) - set(mine[max(0, len(mine) - back):])


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.6])
def test_uniform_takes_the_same_share_of_every_group(residual: Program,
                                                     residual_groups: ChannelGroups,
                                                     ratio: float) -> None:
    removed = allocate(residual, residual_groups, drawn(residual_groups, 1), ratio=ratio,
                       method="uniform", round_to=1, target="channels")
    kept = left(residual_groups, removed)
    shares = [kept[name] / width for name, width in WIDTHS.items()]
    assert shares == pytest.approx([1 - ratio] * 3, abs=0.5 / 7 + 0.01)


@pytest.mark.parametrize("method", ["uniform", "global", "solved"])
@pytest.mark.parametrize("round_to", [1, 4])
def test_the_lowest_scores_of_a_group_go(residual: Program, residual_groups: ChannelGroups,
                                         method: str, round_to: int) -> None:
    scores = drawn(residual_groups, 3)
    gone = set(allocate(residual, residual_groups, scores, method=method, round_to=round_to))
    assert gone
    for group in residual_groups.groups:
        stays = [scores[c] for c in group.channels if c not in gone]
        goes = [scores[c] for c in group.channels if c in gone]
        assert not goes or max(goes) < min(stays)


def test_global_compares_scores_relative_to_their_groups_mean(residual: Program,
                                                              residual_groups: ChannelGroups) -> None:
    first, second, third = residual_groups.groups
    scores = drawn(residual_groups, 4)
    scaled = scores | {c: 1000 * scores[c] for c in second.channels}
    assert allocate(residual, residual_groups, scores) == allocate(
        residual, residual_groups, scaled)
    flat = dict.fromkeys(channels_of(residual_groups), 1.0)
    flat.update(dict.fromkeys(first.channels[:6], 0.01))
    removed = allocate(residual, residual_groups, flat, target="channels", ratio=6 / 37,
                       round_to=1)
    assert sorted(removed) == sorted(first.channels[:6])
    assert third.name == "last.weight"


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_ties_take_no_more_than_was_asked_for(residual: Program, residual_groups: ChannelGroups,
                                              value: float, ratio: float) -> None:
    scores = dict.fromkeys(channels_of(residual_groups), value)
    removed = allocate(residual, residual_groups, scores, target="channels", ratio=ratio,
                       round_to=1)
    assert len(removed) == int(np.ceil(37 * ratio))
    kept = left(residual_groups, removed)
    shares = [kept[name] / width for name, width in WIDTHS.items()]
    assert shares == pytest.approx([1 - ratio] * 3, abs=1 / 7)


def test_the_same_scores_give_the_same_channels(residual: Program,
                                                residual_groups: ChannelGroups) -> None:
    scores = drawn(residual_groups, 5, ties=True)
    assert allocate(residual, residual_groups, scores) == allocate(
        residual, find_groups(residual), scores)


@pytest.mark.parametrize(("step", "kept"), [(1, {1}), (4, {4}), (7, {7}), (8, {8, 7}),
                                            (16, {16, 12, 7})])
def test_the_smallest_program_keeps_a_step_of_every_group(residual: Program,
                                                          residual_groups: ChannelGroups, step: int,
                                                          kept: set[Any]) -> None:
    macs, parameters = residual_groups.costs_without(smallest(residual_groups, LegalWidths(step)))
    removed = allocate(residual, residual_groups, drawn(residual_groups, 6), round_to=step,
                       ratio=1 - macs / residual.costs().macs)
    assert set(left(residual_groups, removed).values()) == kept
    costs = remove_channels(residual, residual_groups, removed).costs()
    assert (costs.macs, costs.parameters) == (macs, parameters)


@pytest.mark.parametrize("width", range(3, 40))
def test_a_ratio_computed_from_the_smallest_program_can_be_asked_for(width: int) -> None:
    program = Program.capture(nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2)),
                              torch.zeros(1, 3))
    groups = find_groups(program)
    macs, _ = groups.costs_without(smallest(groups, LegalWidths(1)))
    removed = allocate(program, groups, drawn(groups, 0), round_to=1,
                       ratio=1 - macs / program.costs().macs)
    assert len(removed) == width - 1


@pytest.mark.parametrize("method", ["uniform", "global", "solved"])
def test_a_ratio_that_cannot_be_reached_is_refused(residual: Program,
                                                   residual_groups: ChannelGroups,
                                                   method: str) -> None:
    macs, _ = residual_groups.costs_without(smallest(residual_groups, LegalWidths(4)))
    keeps = macs / residual.costs().macs
    with pytest.raises(UsageError) as caught:
        allocate(residual, residual_groups, drawn(residual_groups, 7), ratio=0.97,
                 method=method)
    assert str(caught.value) == (
        f"cannot remove 97% of the macs: the smallest legal program keeps {keeps:.1%} (widths in "
        "steps of 4); ask for less, lower least_width or round_to, or ignore fewer layers")


def test_without_normalising_scores_are_compared_as_they_are(residual: Program,
                                                             residual_groups: ChannelGroups) -> None:
    first, second, _ = residual_groups.groups
    scores = dict.fromkeys(channels_of(residual_groups), 1.0)
    scores.update(dict.fromkeys(second.channels, 0.5))
    removed = allocate(residual, residual_groups, scores, target="channels", ratio=10 / 37,
                       round_to=1, normalize=False)
    assert set(removed) < set(second.channels)
    assert len(removed) == 10
    assert first.name == "stem.weight"


@pytest.mark.parametrize("method", ["uniform", "global", "solved"])
def test_a_ratio_can_be_a_share_of_another_cost(residual: Program, residual_groups: ChannelGroups,
                                                method: str) -> None:
    scores = drawn(residual_groups, 8)
    total = residual.costs().macs
    removed = allocate(residual, residual_groups, scores, ratio=0.7, original=2.0 * total,
                       method=method, round_to=1)
    assert cost(residual, residual_groups, removed, "macs") <= 0.6 * total
    assert allocate(residual, residual_groups, scores, ratio=0.4, original=2.0 * total,
                    method=method) == []
    with pytest.raises(UsageError, match=r"cannot remove 100% of the macs: .* keeps 1\.\d%"):
        allocate(residual, residual_groups, scores, ratio=0.999, original=2.0 * total,
                 method=method, round_to=1)


@pytest.mark.parametrize("method", ["uniform", "global", "solved"])
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_peak_memory_is_limited_as_the_sliced_program_has_it(residual: Program, residual_groups: ChannelGroups, method: str,
                                                             ratio: float) -> None:
    removed = allocate(residual, residual_groups, drawn(residual_groups, 9), target="ram",
                       ratio=ratio, method=method, round_to=1)
    sliced = remove_channels(residual, residual_groups, removed)
    before, after = (p.costs().peak_activation_bytes for p in (residual, sliced))
    assert (1 - ratio) * before * 0.85 < after <= (1 - ratio) * before + 1e-6


def test_what_cannot_be_reached_is_refused_before_anything_is_scored(residual: Program,
                                                                     residual_groups: ChannelGroups) -> None:
    cost = CostModel(residual, residual_groups, "channels")
    require_reachable(cost, Allocation(0.9))
    with pytest.raises(UsageError, match=r"cannot remove 98% of the channels: the smallest legal "
                                         r"program keeps 8\.1%"):
        require_reachable(cost, Allocation(0.98))


@pytest.mark.parametrize(("share", "kept"), [(0.25, (4, 6)), (0.5, (4, 4)), (0.75, (2, 2)),
                                             (1.0, (1, 1))])
def test_uniform_takes_a_share_of_a_product_once(share: float, kept: tuple[int, ...]) -> None:
    """Four groups of eight channels: the larger factor goes first, the other beyond a half."""
    program = Program.capture(nn.Sequential(
        nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 1, groups=4), nn.Flatten(), nn.Linear(32, 2)),
        torch.zeros(1, 3, 1, 1))
    groups = find_groups(program)
    removed = set(select_uniform(groups, share, LegalWidths(1)))
    left = {len(group.channels): len(group.channels) - len(removed & set(group.channels))
            for group in groups.groups}
    assert (left[4], left[8]) == kept
    remove_channels(program, groups, removed)
