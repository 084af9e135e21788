"""The slice is the network one would have built with fewer channels, and says what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import Tensor, nn

from edgewright.channels import find_groups, remove_channels
from edgewright.errors import UsageError
from edgewright.program import Program, fold_batch_norm

IMAGE = (torch.zeros(1, 3, 8, 8),)


def conv(inputs: Any, outputs: Any, size: int = 3, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def test_half_of_resnet20(resnet20_program: Program, choose: Callable[..., list[int]],
                          prune: Callable[..., Program]) -> None:
    sliced = prune(resnet20_program, choose(find_groups(resnet20_program)))
    costs = sliced.costs()
    assert costs.macs < 0.45 * 40_551_040
    assert costs.parameters < 0.35 * 269_722


def test_against_zeros_written_by_hand() -> None:
    model = nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 4), nn.Flatten(), nn.Linear(256, 2))
    program = Program.capture(model, IMAGE)
    found = find_groups(program)
    first, second = found.groups
    sliced = remove_channels(program, found, (first.channels[1], first.channels[4],
                                              second.channels[2]))
    with torch.no_grad():
        model.get_parameter("2.weight")[:, [1, 4]] = 0
        model.get_parameter("4.weight")[:, 2 * 64:3 * 64] = 0
        x = torch.randn(5, 3, 8, 8)
        torch.testing.assert_close(sliced.run(x), model(x))
    shapes = {name: tuple(value.shape) for name, value in sliced.state_dict().items()}
    assert shapes == {"0.weight": (4, 3, 3, 3), "0.bias": (4,), "2.weight": (3, 4, 3, 3),
                      "2.bias": (3,), "4.weight": (2, 192), "4.bias": (2,)}


def without(model: nn.Module, inputs: Any, places: Any) -> Any:
    """The program of a model without the channels at ``places``: {tensor and dimension: rows}."""
    program = Program.capture(model, inputs)
    found = find_groups(program)
    channels = [channel for channel in found.channels.tolist()
                if any(found.slices(channel).get(place, torch.tensor(())).tolist() in rows
                       for place, rows in places.items())]
    assert len(channels) == sum(map(len, places.values()))
    return remove_channels(program, found, channels)


class Attention(nn.Module):
    """Heads written out, of any number and width."""

    def __init__(self, heads: Any, width: Any) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.q, self.k, self.v = (nn.Linear(6, heads * width) for _ in range(3))
        self.o = nn.Linear(heads * width, 6)

    def forward(self, x: Tensor, scale: Any = None) -> Tensor:
        q, k, v = (layer(x).view(x.shape[0], 5, self.heads, -1).transpose(1, 2)
                   for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, scale=scale)
        return self.o(y.transpose(1, 2).reshape(x.shape[0], 5, -1))


def test_a_head_less_against_attention_built_with_fewer() -> None:
    model, small = Attention(3, 4), Attention(2, 4)
    sliced = without(model, torch.zeros(1, 5, 6), {("q.weight", 0): [[4, 5, 6, 7]]})
    kept = [0, 1, 2, 3, 8, 9, 10, 11]
    with torch.no_grad():
        for old, new in ((model.q, small.q), (model.k, small.k), (model.v, small.v)):
            new.weight.copy_(old.weight[kept])
            new.bias.copy_(old.bias[kept])
        small.o.weight.copy_(model.o.weight[:, kept])
        small.o.bias.copy_(model.o.bias)
        x = torch.randn(3, 5, 6)
        torch.testing.assert_close(sliced.run(x), small(x))


def test_narrower_heads_keep_the_scale_of_the_whole_width() -> None:
    model = Attention(2, 4)
    sliced = without(model, torch.zeros(1, 5, 6), {("q.weight", 0): [[1, 5]],
                                                   ("v.weight", 0): [[0, 4], [2, 6]]})
    narrow, short = [0, 2, 3, 4, 6, 7], [1, 3, 5, 7]
    with torch.no_grad():
        for layer, kept in ((model.q, narrow), (model.k, narrow), (model.v, short)):
            layer.weight = nn.Parameter(layer.weight[kept])
            layer.bias = nn.Parameter(layer.bias[kept])
        model.o.weight = nn.Parameter(model.o.weight[:, short])
        x = torch.randn(3, 5, 6)
        torch.testing.assert_close(sliced.run(x), model(x, scale=0.5))


KEPT = [0, 2, 3, 5]
NORMS = {
    "layer": (lambda: nn.LayerNorm(6), lambda: nn.LayerNorm(4)),
    "rms": (lambda: nn.RMSNorm(6), lambda: nn.RMSNorm(4)),
    "softmax": (lambda: nn.Softmax(-1), lambda: nn.Softmax(-1)),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_of_fewer_channels(name: Any, randomise: Callable[..., nn.Module]) -> None:
    build, build_small = NORMS[name]
    model = randomise(nn.Sequential(nn.Linear(5, 6), build(), nn.Linear(6, 3)))
    small = nn.Sequential(nn.Linear(5, 4), build_small(), nn.Linear(4, 3))
    sliced = without(model, torch.zeros(1, 5), {("0.weight", 0): [[1], [4]]})
    with torch.no_grad():
        for key, value in model.state_dict().items():
            small.state_dict()[key].copy_(value[:, KEPT] if key == "2.weight" else
                                          value if key == "2.bias" else value[KEPT])
        x = torch.randn(3, 5)
        torch.testing.assert_close(sliced.run(x), small(x))


@pytest.mark.parametrize(("rows", "kept", "groups"), [
    ([[2, 3]], [0, 1, 4, 5], 2), ([[0, 2, 4]], [1, 3, 5], 3)])
def test_a_group_norm_of_fewer_or_narrower_groups(rows: list[list[int]], kept: list[int],
                                                  groups: int,
                                                  randomise: Callable[..., nn.Module]) -> None:
    model = randomise(nn.Sequential(conv(3, 6), nn.GroupNorm(3, 6), conv(6, 2)))
    small = nn.Sequential(conv(3, len(kept)), nn.GroupNorm(groups, len(kept)),
                          conv(len(kept), 2))
    sliced = without(model, IMAGE, {("0.weight", 0): rows})
    with torch.no_grad():
        for key, value in model.state_dict().items():
            small.state_dict()[key].copy_(value[:, kept] if key == "2.weight" else
                                          value if key == "2.bias" else value[kept])
        x = torch.randn(3, 3, 8, 8)
        torch.testing.assert_close(sliced.run(x), small(x))


@pytest.mark.parametrize(("rows", "kept", "groups", "inner"), [
    ([[2, 3]], [0, 1, 4, 5], 2, [0, 1, 2, 3]), ([[0, 2, 4]], [1, 3, 5], 3, [0, 1, 2, 3, 4, 5])])
def test_a_transposed_convolution_of_fewer_or_narrower_groups(rows: list[list[int]],
                                                              kept: list[int], groups: int,
                                                              inner: list[int]) -> None:
    model = nn.Sequential(conv(3, 6), nn.ConvTranspose2d(6, 6, 2, groups=3), conv(6, 2))
    small = nn.Sequential(conv(3, len(kept)), nn.ConvTranspose2d(
        len(kept), len(inner), 2, groups=groups), conv(len(inner), 2))
    sliced = without(model, IMAGE, {("0.weight", 0): rows})
    outputs = kept if groups == 2 else inner
    with torch.no_grad():
        for key, value in model.state_dict().items():
            small.state_dict()[key].copy_(
                value[:, outputs] if key == "2.weight" else value[outputs] if key == "1.bias"
                else value if key == "2.bias" else value[kept])
        x = torch.randn(3, 3, 8, 8)
        torch.testing.assert_close(sliced.run(x), small(x))


def test_a_mean_is_of_what_stays(net: type[Net]) -> None:
    model = net(lambda m, x: m.a(x).mean(1, keepdim=True), a=nn.Linear(4, 6))
    sliced = without(model, torch.zeros(1, 4), {("a.weight", 0): [[0], [5]]})
    x = torch.randn(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(sliced.run(x), model.a(x)[:, 1:5].mean(1, keepdim=True))


def test_an_unused_part_goes_and_the_index_of_another_is_rewritten(net: type[Net]) -> None:
    model = net(lambda m, x: m.b(m.a(x).view(-1, 3, 4)[:, 0] * m.a(x).view(-1, 3, 4)[:, 2]),
                a=nn.Linear(4, 12), b=nn.Linear(4, 2))
    sliced = without(model, torch.zeros(1, 4), {("a.weight", 0): [[4, 5, 6, 7]]})
    x = torch.randn(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(sliced.run(x), model(x))
    assert sliced.state_dict()["a.weight"].shape == (8, 4)


def test_a_sliced_program_is_sliced_again_folded_and_trained(resnet: Callable[[int], nn.Module],
                                                             choose: Callable[..., list[int]],
                                                             prune: Callable[..., Program]) -> None:
    program = Program.capture(resnet(1), torch.zeros(1, 3, 16, 16))
    once = prune(program, choose(find_groups(program), share=0.25))
    twice = prune(once, choose(find_groups(once), seed=2, share=0.5))
    assert twice.costs().macs < once.costs().macs < program.costs().macs
    folded = fold_batch_norm(program)
    folded = prune(folded, choose(find_groups(folded), seed=3))
    x = torch.randn(2, 3, 16, 16)
    assert folded.run(x).shape == (2, 10)
    module = twice.module(train=True)
    module(x).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_removing_nothing_changes_nothing(small_program: Program) -> None:
    same = remove_channels(small_program, find_groups(small_program), ())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(same.run(x), small_program.run(x))


def test_exits_and_training_flags_are_kept() -> None:
    model = nn.Sequential(nn.Linear(4, 6).requires_grad_(False), nn.Linear(6, 2))
    program = Program.capture(model, torch.zeros(1, 4))
    program.exits = 1
    found = find_groups(program)
    sliced = remove_channels(program, found, found.groups[0].channels[:1])
    assert sliced.exits == 1
    flags = {name: value.requires_grad for name, value in sliced.graph_module.named_parameters()}
    assert flags == {"0.weight": False, "0.bias": False, "1.weight": True, "1.bias": True}


def test_what_is_in_no_group_cannot_be_removed(small_program: Program) -> None:
    found = find_groups(small_program)
    labels = found.tensor("5.weight")[0]
    assert labels is not None
    pinned = int(labels[0])
    for channel in (pinned, -1, 10**9):
        with pytest.raises(UsageError, match=f"{channel} is no channel that can be removed"):
            remove_channels(small_program, found, (found.groups[0].channels[0], channel))


def test_removing_a_whole_group_is_refused(small_program: Program) -> None:
    found = find_groups(small_program)
    with pytest.raises(UsageError, match=r"all 4 indices of 0\.weight, dimension 0, would be "
                                         r"removed; keep at least one channel of every group"):
        remove_channels(small_program, found, found.groups[0].channels)
