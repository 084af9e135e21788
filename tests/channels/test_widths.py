"""Legal widths, the step a group is rounded by, and what its channels are worth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgewright.channels import (
    ChannelGroup,
    ChannelGroups,
    LegalWidths,
    counts_of,
    find_groups,
    widths_of,
)
from edgewright.channels._widths import legal_widths, step_of
from edgewright.program import Program


@pytest.mark.parametrize(("count", "step", "legal"), [
    (10, 4, [4, 8, 10]), (12, 4, [4, 8, 12]), (4, 4, [4]), (3, 4, [3]), (3, 1, [1, 2, 3]),
    (1, 1, [1]), (5, 4, [4, 5])])
def test_legal_widths(count: int, step: int, legal: list[int]) -> None:
    assert legal_widths(count, step).tolist() == legal


@pytest.mark.parametrize(("occupied", "round_to", "step"), [
    ([1, 1], 4, 4), ([49, 1], 16, 16), ([64, 64], 16, 1), ([12, 12], 16, 4), ([6, 12], 4, 2),
    ([3], 1, 1), ([], 8, 8)])
def test_the_step_shrinks_with_the_indices_a_channel_occupies(occupied: list[Any] | list[int],
                                                              round_to: int, step: int) -> None:
    group = ChannelGroup("a", (), (7,))
    groups = SimpleNamespace(slices=lambda channel: {
        ("t", index): np.arange(count) for index, count in enumerate(occupied)})
    assert step_of(groups, group, round_to) == step  # type: ignore[arg-type]


def test_a_flattened_channel_is_rounded_by_the_convolution_that_makes_it() -> None:
    model = nn.Sequential(nn.Conv2d(2, 10, 3), nn.Flatten(), nn.Linear(40, 3))
    groups = find_groups(Program.capture(model, torch.zeros(1, 2, 4, 4)))
    assert widths_of(groups, LegalWidths(4))[0].legal.tolist() == [4, 8, 10]


def test_worth_is_the_sum_of_the_best(residual_groups: ChannelGroups) -> None:
    rng = np.random.default_rng(0)
    scores = {channel: float(rng.random()) for group in residual_groups.groups
              for channel in group.channels}
    for normalize in (True, False):
        for group, widths in zip(residual_groups.groups,
                                 widths_of(residual_groups, LegalWidths(4), scores, normalize), strict=True):
            best = sorted((scores[channel] for channel in group.channels), reverse=True)
            unit = sum(best) / len(best) if normalize else 1.0
            for kept in range(len(best) + 1):
                assert widths.worth()[kept] == pytest.approx(sum(best[:kept]) / unit)
            assert [scores[channel] for channel in widths.ranked] == sorted(best)
            assert widths.count == len(best)


def test_the_nearest_legal_width_and_the_smaller_of_two(residual_groups: ChannelGroups) -> None:
    first = widths_of(residual_groups, LegalWidths(4))[0]
    assert [first.nearest(kept) for kept in (0, 4, 6, 6.1, 11.9, 12)] == [4, 4, 4, 8, 12, 12]


@pytest.mark.parametrize(("count", "step", "least", "legal"), [
    (12, 4, 5, [8, 12]), (12, 4, 4, [4, 8, 12]), (12, 1, 10, [10, 11, 12]), (12, 4, 12, [12]),
    (10, 4, 9, [10]), (3, 4, 1, [3])])
def test_no_legal_width_is_below_the_least(count: int, step: int, least: int,
                                           legal: list[int]) -> None:
    assert legal_widths(count, step, least).tolist() == legal


@pytest.mark.parametrize(("channels", "occupied", "step"), [
    (256, [1], 16), (64, [1], 16), (63, [1], 8), (32, [1], 8), (16, [1], 4), (8, [1], 2),
    (7, [1], 1), (12, [64], 1), (64, [12], 4), (4, [8], 1)])
def test_the_step_is_chosen_by_the_size_of_what_is_cut(channels: int, occupied: list[int],
                                                       step: int) -> None:
    group = ChannelGroup("a", (), tuple(range(channels)))
    groups = SimpleNamespace(slices=lambda channel: {
        ("t", index): np.arange(count) for index, count in enumerate(occupied)})
    assert step_of(groups, group, "auto") == step  # type: ignore[arg-type]


def test_the_least_width_is_a_share_of_what_there_was_at_first(residual_groups: ChannelGroups) -> None:
    rule = LegalWidths(1, 0.5)
    assert [int(group.legal[0]) for group in widths_of(residual_groups, rule)] == [
        -(-len(group.channels) // 2) for group in residual_groups.groups]
    twice = {key: 2 * count for key, count in counts_of(residual_groups).items()}
    later = widths_of(residual_groups, LegalWidths(1, 0.5, twice))
    assert [group.legal.tolist() for group in later] == [
        [len(group.channels)] for group in residual_groups.groups]
