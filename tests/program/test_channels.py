"""Which channels go together, which stay, and why."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewright.errors import UsageError
from edgewright.program import Program

IMAGE = torch.zeros(1, 3, 8, 8)


def conv(inputs, outputs, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def groups_of(model, *inputs, ignore=()):
    return Program.capture(model, inputs or (IMAGE,)).groups(ignore)


def named(found):
    return {group.name: len(group.channels) for group in found.groups}


def test_a_chain_has_a_group_a_layer():
    found = groups_of(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 6),
                                    conv(6, 2)))
    assert named(found) == {"0.weight": 4, "3.weight": 6}
    assert found.kept == {"4.weight": "it is an output"}
    assert set(found.groups[0].slices) == {
        ("0.weight", 0), ("0.bias", 0), ("1.weight", 0), ("1.bias", 0), ("1.running_mean", 0),
        ("1.running_var", 0), ("3.weight", 1)}


def test_the_indices_of_a_channel_in_every_tensor():
    found = groups_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)))
    (group,) = found.groups
    for place, channel in enumerate(group.channels):
        indices = {key: value.tolist() for key, value in found.slices(channel).items()}
        assert indices == {("0.weight", 0): [place], ("0.bias", 0): [place],
                           ("2.weight", 1): list(range(36 * place, 36 * (place + 1)))}
    assert found.slices(10**9) == {}


def test_an_addition_ties_both_branches(net):
    found = groups_of(net(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 4), b=conv(3, 4),
                          c=conv(4, 2)))
    assert named(found) == {"a.weight": 4}
    assert {name for name, _ in found.groups[0].slices} == {
        "a.weight", "a.bias", "b.weight", "b.bias", "c.weight"}


def test_padded_shortcuts_leave_the_new_channels_free(resnet20_program):
    found = resnet20_program.groups()
    sizes = sorted(len(group.channels) for group in found.groups)
    # nine blocks' inner layers; the first stage's 16 channels, then the 16 and 32 padded on
    assert sizes == sorted([16] * 3 + [32] * 3 + [64] * 3 + [16, 16, 32])
    assert found.kept == {"linear.weight": "it is an output"}


def test_a_concatenation_keeps_its_parts_apart(net):
    found = groups_of(net(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 4),
                          b=conv(3, 6), c=conv(10, 2)))
    assert named(found) == {"a.weight": 4, "b.weight": 6}


def test_a_depthwise_layer_goes_with_its_input():
    found = groups_of(nn.Sequential(conv(3, 4), conv(4, 8, groups=4), conv(8, 2)))
    (group,) = found.groups
    assert (group.name, len(group.channels)) == ("0.weight", 4)
    second = [found.slices(channel)["1.weight", 0].tolist() for channel in group.channels]
    assert second == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_a_grouped_layer_loses_the_same_in_every_group():
    found = groups_of(nn.Sequential(conv(3, 6), conv(6, 8, groups=2), conv(8, 2)))
    assert named(found) == {"0.weight": 3, "1.weight": 4}
    pairs = [found.slices(channel)["0.weight", 0].tolist() for channel in found.groups[0].channels]
    assert pairs == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(("function", "members", "weight", "reason"), [
    (lambda m, x: m.b(torch.flip(m.a(x), [1])), {}, "a.weight",
     "flip (flip) has no slicing rule"),
    (lambda m, x: m.b(m.a(x).cumsum(1)), {}, "a.weight", "cumsum (cumsum) has no slicing rule"),
    (lambda m, x: m.b(m.t(m.a(x))), {"t": nn.ConvTranspose2d(4, 4, 1)}, "a.weight",
     "conv_transpose2d (conv_transpose2d) has no slicing rule"),
    (lambda m, x: m.b(m.t(m.a(x))), {"t": nn.GroupNorm(2, 4)}, "a.weight",
     "group_norm normalises over groups of it"),
    (lambda m, x: m.b(m.a(x).softmax(1)), {}, "a.weight", "softmax normalises over it"),
    (lambda m, x: m.b(F.layer_norm(m.a(x), (4, 8, 8))), {}, "a.weight",
     "layer_norm normalises over it"),
    (lambda m, x: m.b(m.a(x) - m.a(x).mean(1, keepdim=True)), {}, "a.weight",
     "mean reduces over it"),
    (lambda m, x: m.a(x).sum() + m.b(m.a(x)), {}, "a.weight", "sum_1 reduces over it"),
    (lambda m, x: m.b(m.a(x) * m.a(x)[:, :1]), {}, "a.weight", "mul broadcasts it"),
    (lambda m, x: m.b(m.a(x)[:, ::2].repeat(1, 2, 1, 1)), {}, "a.weight",
     "slice_2 takes every 2th"),
    (lambda m, x: m.b(m.a(x)) + m.a(x)[:, 0:1][:, 0].unsqueeze(1), {}, "a.weight",
     "select selects one of it"),
    (lambda m, x: m.b(F.pad(m.a(x), (0, 0, 0, 0, -1, 1))), {}, "a.weight",
     "pad pads it by constant"),
    (lambda m, x: m.b(m.a(x).view(-1, 2, 2, 8, 8).transpose(1, 2).flatten(1, 2)), {}, "a.weight",
     "view splits or merges it"),
    (lambda m, x: m.b(torch.cat([m.a(x)[:, :1], x], 1)), {}, "b.weight", "it is an output"),
    (lambda m, x: m.b(m.a(x) + F.pad(x, (0, 0, 0, 0, 0, 1))), {}, "a.weight",
     "add ties it to a fixed dimension"),
    (lambda m, x: m.b(m.a(x).reshape(x.shape[0] * 4, 64).tanh().reshape(-1, 4, 8, 8)), {},
     "a.weight", "reshape splits or merges it"),
    (lambda m, x: m.b(m.t(m.a(x))), {"t": nn.Conv2d(4, 4, 1)}, "b.weight", "it is an output"),
])
def test_what_stays_says_why(function, members, weight, reason, net):
    found = groups_of(net(function, a=conv(3, 4), b=conv(4, 2), **members))
    assert found.kept[weight] == reason
    is_one_channel = reason in ("mul broadcasts it", "select selects one of it")
    assert named(found).get(weight, 0) == (3 if is_one_channel else 0)


def test_an_input_that_is_read_in_groups_pins(net):
    found = groups_of(nn.Sequential(conv(4, 8, groups=2), conv(8, 2)), torch.zeros(1, 4, 8, 8))
    assert found.kept["0.weight"] == "conv2d reads a fixed input in groups"


def test_a_norm_or_slope_over_the_input_stays():
    found = groups_of(nn.Sequential(nn.BatchNorm2d(3), nn.PReLU(3), conv(3, 4), conv(4, 2)))
    assert named(found) == {"2.weight": 4}
    reason = found.classes.reason(found.classes.root(int(found.tensor("0.weight")[0][0])))
    assert reason == "batch_norm normalises a fixed input"


def test_a_vocabulary_stays_and_its_features_go():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    found = groups_of(model, torch.zeros(1, 3, dtype=torch.long))
    assert named(found) == {"0.weight": 4, "1.weight": 5}
    assert found.kept["0.weight"] == "a vocabulary"


def test_a_squeezed_output_is_an_output(net):
    model = net(lambda m, x: m.b(m.a(x).relu()).squeeze(-1), a=nn.Linear(4, 6), b=nn.Linear(6, 1))
    found = groups_of(model, torch.zeros(1, 4))
    assert named(found) == {"a.weight": 6}
    assert found.kept == {"b.weight": "squeeze splits or merges it"}


def test_a_position_embedding_does_not_track_the_batch(net):
    model = net(lambda m, x: m.b((m.a(x) + m.p).view(x.shape[0], 30).relu()),
                a=nn.Linear(4, 6), b=nn.Linear(30, 2), p=nn.Parameter(torch.randn(1, 5, 6)))
    found = groups_of(model, torch.zeros(1, 5, 4))
    assert named(found) == {"a.weight": 6}
    assert ("p", 2) in found.groups[0].slices
    assert found.kept == {"p": "add broadcasts it", "b.weight": "it is an output"}


@pytest.mark.parametrize("parametrize", [nn.utils.parametrizations.weight_norm,
                                         nn.utils.parametrizations.spectral_norm])
def test_a_computed_weight_stays(parametrize):
    found = groups_of(nn.Sequential(conv(3, 4), parametrize(conv(4, 4)), conv(4, 2)))
    assert named(found) == {}
    assert "has no slicing rule" in found.kept[
        next(name for name in found.kept if "parametrizations" in name)]


def test_a_region_without_gradients_stays(net):
    def forward(m, x):
        with torch.no_grad():
            y = m.a(x)
        return m.b(y)

    found = groups_of(net(forward, a=conv(3, 4), b=conv(4, 2)))
    assert found.kept["a.weight"].startswith("wrap_with_set_grad_enabled")


@pytest.mark.parametrize("pattern", ["a", "a.weight", "a*", "[a]", "?.weight", "?"])
def test_ignored_layers_keep_their_channels(pattern, net):
    model = net(lambda m, x: m.c(m.b(m.a(x))), a=conv(3, 4), b=conv(4, 6), c=conv(6, 2))
    found = groups_of(model, ignore=(pattern,))
    assert found.kept["a.weight"] == f"ignore={pattern!r}"
    assert ("b.weight" in named(found)) == ("?" not in pattern)


@pytest.mark.parametrize("pattern", ["d", "a.", "weight", "A"])
def test_an_ignore_that_matches_nothing_lists_the_layers(pattern, net):
    model = net(lambda m, x: m.b(m.a(x)), a=conv(3, 4), b=conv(4, 2))
    with pytest.raises(UsageError) as caught:
        groups_of(model, ignore=(pattern,))
    assert str(caught.value) == f"ignore={pattern!r} matches no layer; there are: a, b"


def test_contractions_are_where_channels_are_summed_over(small_program):
    found = small_program.groups()
    assert [(node.name, place, dim) for node, place, dim in found.contractions] == [
        ("conv2d", 0, 1), ("linear", 0, 1)]


def test_costs_without_nothing_are_the_costs(resnet20_program):
    costs = resnet20_program.costs()
    found = resnet20_program.groups()
    assert found.costs_without(()) == (costs.macs, costs.parameters)


def test_costs_without_a_channel_by_hand(small_program):
    found = small_program.groups()
    macs, parameters = found.costs_without(found.groups[0].channels[:1])
    assert macs == 3 * 36 * 27 + 3 * 5
    assert parameters == 3 * 28 + 2 * 3 + 3 * 5 + 5
