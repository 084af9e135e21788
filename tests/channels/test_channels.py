"""Which channels are grouped, which are kept, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import nn

from edgewright.channels import ChannelGroups, find_groups
from edgewright.errors import UsageError
from edgewright.program import Program

IMAGE = torch.zeros(1, 3, 8, 8)


def conv(inputs: Any, outputs: Any, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def groups_of(model: nn.Module, *inputs: Any, ignore: tuple[Any, ...] = ()) -> Any:
    return find_groups(Program.capture(model, inputs or (IMAGE,)), ignore)


def named(found: Any) -> Any:
    return {group.name: len(group.channels) for group in found.groups}


def indices(found: Any, group: Any, name: str, dim: int = 0) -> Any:
    """Where each channel of a group lies in one tensor dimension."""
    return [found.slices(channel)[name, dim].tolist() for channel in group.channels]


def test_a_chain_has_one_group_per_layer() -> None:
    found = groups_of(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 6),
                                    conv(6, 2)))
    assert named(found) == {"0.weight": 4, "3.weight": 6}
    assert found.kept == {"4.weight": "it is an output"}
    assert set(found.groups[0].slices) == {
        ("0.weight", 0), ("0.bias", 0), ("1.weight", 0), ("1.bias", 0), ("1.running_mean", 0),
        ("1.running_var", 0), ("3.weight", 1)}


def test_the_indices_of_a_channel_in_every_tensor() -> None:
    found = groups_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)))
    (group,) = found.groups
    for place, channel in enumerate(group.channels):
        indices = {key: value.tolist() for key, value in found.slices(channel).items()}
        assert indices == {("0.weight", 0): [place], ("0.bias", 0): [place],
                           ("2.weight", 1): list(range(36 * place, 36 * (place + 1)))}
    assert found.slices(10**9) == {}


def test_the_table_names_groups_layers_and_reasons() -> None:
    found = groups_of(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), conv(4, 12), conv(12, 2)),
                      ignore=("2",))
    assert str(found).splitlines() == [
        "group     channels  sliced layers [dimension], or reason",
        "0.weight         4  0[0], 1[0], 2[1]",
        "2.weight      kept  ignore='2'",
        "3.weight      kept  it is an output"]
    assert repr(found) == "<ChannelGroups: 4 channels in 1 group; 2 weights kept>"


def test_the_table_of_a_program_without_groups_has_its_reasons() -> None:
    found = groups_of(nn.Linear(4, 2), torch.zeros(1, 4))
    assert str(found).splitlines()[1:] == ["weight      kept  it is an output"]
    assert repr(found) == "<ChannelGroups: 0 channels in 0 groups; 1 weight kept>"


def test_a_table_is_at_most_100_columns_wide_and_names_every_layer(resnet20_program: Program) -> None:
    found = find_groups(resnet20_program)
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 100
    assert all(f"layer3.{block}.conv2[0]" in str(found) for block in range(3))
    assert len(lines) > len(found.groups) + len(found.kept) + 1  # the longest ones are wrapped


def test_an_addition_ties_both_branches(net: type[Net]) -> None:
    found = groups_of(net(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 4), b=conv(3, 4),
                          c=conv(4, 2)))
    assert named(found) == {"a.weight": 4}
    assert {name for name, _ in found.groups[0].slices} == {
        "a.weight", "a.bias", "b.weight", "b.bias", "c.weight"}


def test_padded_shortcuts_leave_the_new_channels_free(resnet20_program: Program) -> None:
    found = find_groups(resnet20_program)
    sizes = sorted(len(group.channels) for group in found.groups)
    # nine blocks' inner layers; the first stage's 16 channels, then the 16 and 32 padded on
    assert sizes == sorted([16] * 3 + [32] * 3 + [64] * 3 + [16, 16, 32])
    assert found.kept == {"linear.weight": "it is an output"}


def test_a_concatenation_keeps_its_parts_apart(net: type[Net]) -> None:
    found = groups_of(net(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 4),
                          b=conv(3, 6), c=conv(10, 2)))
    assert named(found) == {"a.weight": 4, "b.weight": 6}


def test_a_depthwise_layer_is_grouped_with_its_input() -> None:
    found = groups_of(nn.Sequential(conv(3, 4), conv(4, 8, groups=4), conv(8, 2)))
    assert named(found) == {"0.weight": 4, "1.weight by 4": 2}
    depth, multiplier = found.groups
    assert indices(found, depth, "1.weight") == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert indices(found, multiplier, "1.weight") == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert indices(found, depth, "2.weight", 1) == indices(found, depth, "1.weight")


def test_a_grouped_layer_loses_whole_groups_or_the_same_in_every_group() -> None:
    found = groups_of(nn.Sequential(conv(3, 6), conv(6, 8, groups=2), conv(8, 2)))
    assert named(found) == {"0.weight by 2": 3, "0.weight by 3": 2, "1.weight by 2": 4}
    by_name = {group.name: group for group in found.groups}
    inside, whole = by_name["0.weight by 2"], by_name["0.weight by 3"]
    outside = by_name["1.weight by 2"]
    assert indices(found, inside, "0.weight") == [[0, 3], [1, 4], [2, 5]]
    assert indices(found, inside, "1.weight", 1) == [[0], [1], [2]]
    assert indices(found, whole, "0.weight") == [[0, 1, 2], [3, 4, 5]]
    assert indices(found, whole, "1.weight") == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert indices(found, outside, "1.weight") == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_heads_and_their_width_share_indices(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        q, k, v = m.q(x).view(-1, 5, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return m.o(y.transpose(1, 2).reshape(-1, 5, 4))

    found = groups_of(net(forward, q=nn.Linear(4, 12), o=nn.Linear(4, 4)), torch.zeros(1, 5, 4))
    assert named(found) == {"q.weight by 6": 2, "q.weight by 6 (2)": 2}
    rows = sorted(row for group in found.groups for row in indices(found, group, "o.weight", 1))
    assert rows == [[0, 1], [0, 2], [1, 3], [2, 3]]
    for group in found.groups:
        for row in indices(found, group, "q.weight"):
            assert [index % 4 for index in row[:2]] == [index - 4 for index in row[2:4]]


@pytest.mark.parametrize(("function", "members", "reason"), [
    (lambda m, x: m.b(torch.flip(m.a(x), [1])), {}, "flip (flip) reads it in order"),
    (lambda m, x: m.b(m.a(x).cumsum(1)), {}, "cumsum (cumsum) reads it in order"),
    (lambda m, x: m.b(torch.tril(m.a(x))), {}, "tril (tril) has no slicing rule"),
    (lambda m, x: m.b(m.a(x)[:, ::3].repeat(1, 2, 1, 1)[:, :4]), {}, "slice_2 takes every 3th"),
    (lambda m, x: m.b(m.a(x) + m.a(x)[:, 0:1]), {}, "slice_2 takes it alone"),
    (lambda m, x: m.b(m.a(x)) + m.a(x)[:, 1].unsqueeze(1), {}, "select selects it"),
    (lambda m, x: m.b(F.pad(m.a(x), (0, 0, 0, 0, -1, 1))), {}, "pad pads it by constant"),
    (lambda m, x: m.b(m.a(x) + F.pad(x, (0, 0, 0, 0, 0, 1))), {},
     "add ties it to a fixed dimension"),
    (lambda m, x: m.b(m.a(x).argmax(1, keepdim=True).float() + m.a(x)), {},
     "argmax counts along it"),
    (lambda m, x: m.b(m.a(x).view(-1, 4, 8, 8).unbind(1)[0][:, None].repeat(1, 4, 1, 1)), {},
     "unbind takes it apart"),
    (lambda m, x: m.b(m.a(x)[:, m.i]), {"i": nn.Buffer(torch.tensor([1, 0, 3, 2]))},
     "index looks up in it"),
])
def test_kept_weights_have_a_reason(function: Callable[..., Any], members: dict[str, Any],
                                    reason: str, net: type[Net]) -> None:
    found = groups_of(net(function, a=conv(3, 4), b=conv(4, 2), **members))
    assert found.kept["a.weight"] == reason
    alone = ("takes it alone", "selects it")
    expected = 3 if reason.endswith(alone) else 0
    assert sum(len(group.channels) for group in found.groups
               if ("a.weight", 0) in group.slices) == expected


def test_an_input_that_is_read_in_groups_keeps_its_groups() -> None:
    found = groups_of(nn.Sequential(conv(4, 8, groups=2), conv(8, 2)), torch.zeros(1, 4, 8, 8))
    assert named(found) == {"0.weight by 2": 4}
    assert indices(found, found.groups[0], "0.weight") == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_a_norm_or_slope_over_the_input_is_kept() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.PReLU(3), conv(3, 4), conv(4, 2))
    found = groups_of(model)
    assert named(found) == {"2.weight": 4}
    assert {name for name, _ in found.groups[0].slices} == {"2.weight", "2.bias", "3.weight"}


def test_embedding_rows_are_kept_and_features_are_pruned() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    found = groups_of(model, torch.zeros(1, 3, dtype=torch.long))
    assert named(found) == {"0.weight": 4, "1.weight": 5}
    assert found.kept["0.weight"] == "a vocabulary"


def test_a_squeezed_output_is_an_output(net: type[Net]) -> None:
    model = net(lambda m, x: m.b(m.a(x).relu()).squeeze(-1), a=nn.Linear(4, 6), b=nn.Linear(6, 1))
    found = groups_of(model, torch.zeros(1, 4))
    assert named(found) == {"a.weight": 6}
    assert found.kept == {}


def test_a_position_embedding_does_not_track_the_batch(net: type[Net]) -> None:
    model = net(lambda m, x: m.b((m.a(x) + m.p).view(x.shape[0], 30).relu()),
                a=nn.Linear(4, 6), b=nn.Linear(30, 2), p=nn.Parameter(torch.randn(1, 5, 6)))
    found = groups_of(model, torch.zeros(1, 5, 4))
    assert named(found) == {"a.weight": 6}
    assert ("p", 2) in found.groups[0].slices
    assert found.kept == {"b.weight": "it is an output"}


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm,
                                  nn.utils.parametrizations.spectral_norm])
def test_a_computed_weight_is_pruned_like_a_stored_one(wrap: Any,
                                                       hold: Callable[..., ChannelGroups]) -> None:
    found = hold(nn.Sequential(conv(3, 4), wrap(conv(4, 4)), conv(4, 2)), IMAGE)
    assert named(found) == {"0.weight": 4, "1.weight": 4}


def test_a_no_grad_region_is_pruned(net: type[Net], hold: Callable[..., ChannelGroups]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        with torch.no_grad():
            y = m.a(x)
        return m.b(y)

    assert named(hold(net(forward, a=conv(3, 4), b=conv(4, 2)), IMAGE)) == {"a.weight": 4}


@pytest.mark.parametrize("pattern", ["a", "a.weight", "a*", "[a]", "?.weight", "?"])
def test_ignored_layers_keep_their_channels(pattern: str, net: type[Net]) -> None:
    model = net(lambda m, x: m.c(m.b(m.a(x))), a=conv(3, 4), b=conv(4, 6), c=conv(6, 2))
    found = groups_of(model, ignore=(pattern,))
    assert found.kept["a.weight"] == f"ignore={pattern!r}"
    assert ("b.weight" in named(found)) == ("?" not in pattern)


@pytest.mark.parametrize("pattern", ["d", "zz", "A"])
def test_an_ignore_that_matches_nothing_lists_the_layers(pattern: str, net: type[Net]) -> None:
    model = net(lambda m, x: m.b(m.a(x)), a=conv(3, 4), b=conv(4, 2))
    with pytest.raises(UsageError) as caught:
        groups_of(model, ignore=(pattern,))
    assert str(caught.value) == f"ignore={pattern!r} matches no layer; layers: a, b"


def test_contractions_are_where_channels_are_summed_over(small_program: Program) -> None:
    found = find_groups(small_program)
    assert [(node.name, source.name, dim) for node, source, dim in found.contractions] == [
        ("conv2d", "input_1", 1), ("linear", "flatten", 1)]


def test_costs_without_removed_channels_are_the_costs(resnet20_program: Program) -> None:
    costs = resnet20_program.costs()
    found = find_groups(resnet20_program)
    assert found.costs_without(()) == (costs.macs, costs.parameters)


def test_costs_without_a_channel_by_hand(small_program: Program) -> None:
    found = find_groups(small_program)
    macs, parameters = found.costs_without(found.groups[0].channels[:1])
    assert macs == 3 * 36 * 27 + 3 * 5
    assert parameters == 3 * 28 + 2 * 3 + 3 * 5 + 5


def test_gather_sums_over_each_channels_indices(net: type[Net]) -> None:
    model = nn.Sequential(conv(3, 6), conv(6, 8, groups=2), conv(8, 2))
    found = groups_of(model)
    values = np.arange(1.0, 9.0)
    for place in (("1.weight", 0), ("2.weight", 1)):
        expected = [values[found.slices(channel)[place]].sum()
                    if place in found.slices(channel) else 0 for channel in found.channels]
        assert found.gather(place, values).tolist() == expected
    assert found.gather(("absent", 0), values).tolist() == [0.0] * len(found.channels)


def test_factors_of_a_dimension_share_a_product_however_deep_it_nests() -> None:
    found = groups_of(nn.Sequential(conv(3, 6), conv(6, 12, groups=6), conv(12, 24, groups=12),
                                    conv(24, 2)))
    sizes = sorted(len(group.channels) for group in found.groups)
    assert sizes == [2, 2, 6]
    widest = max(found.groups, key=lambda group: len(group.channels))
    assert all(group.products & widest.products for group in found.groups)


def test_incidence_pairs_indices_with_positions_of_channels(small_program: Program) -> None:
    found = find_groups(small_program)
    pairs = found.incidence(found.tensor("0.weight")[0])
    assert pairs.indices.tolist() == pairs.columns.tolist() == [0, 1, 2, 3]
    assert found.channels[pairs.columns].tolist() == list(found.groups[0].channels)
