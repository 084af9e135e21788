"""The proof fails if the slice is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import nn

from edgewright.channels import _slicing, find_groups, remove_channels
from edgewright.channels.operators import _rules
from edgewright.channels.operators._label_tracker import Operator
from edgewright.errors import ParityError
from edgewright.program import Program

IMAGE = torch.zeros(1, 3, 8, 8)
TOKENS = torch.zeros(1, 5, 8)


def conv(inputs: Any, outputs: Any, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def convs(channels: int = 8, width: int = 8) -> Callable[..., Any]:
    return lambda: {"a": conv(3, width), "b": conv(channels, 4)}


def linears(channels: int = 8) -> Callable[..., Any]:
    return lambda: {"a": nn.Linear(8, 8), "b": nn.Linear(channels, 4)}


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.running_mean", "5.weight"])
def test_a_wrong_slice_is_caught(name: str, small_program: Program,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_groups(small_program)
    right = _slicing._slice_tensors

    def wrong(program: Program, module: torch.fx.GraphModule, groups: Any, gone: Any) -> None:
        right(program, module, groups, gone)
        owner, _, leaf = name.rpartition(".")
        tensor = getattr(module.get_submodule(owner), leaf)
        tensor.data = tensor.data.roll(1, dims=0)

    monkeypatch.setattr(_slicing, "_slice_tensors", wrong)
    with pytest.raises(ParityError, match=r"slicing changed the function: .* at most 0\.0001 is "
                                          "allowed; the program was not changed"):
        remove_channels(small_program, found, found.groups[0].channels[:1])


def test_a_wrong_slice_is_caught_where_the_right_output_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        model.get_parameter("1.weight").zero_()
    program = Program.capture(model, torch.zeros(1, 4))
    found = find_groups(program)
    right = _slicing._slice_tensors

    def wrong(*args: Any) -> None:
        right(*args)
        args[1].get_parameter("1.weight").data += 1

    monkeypatch.setattr(_slicing, "_slice_tensors", wrong)
    with pytest.raises(ParityError, match="slicing changed the function"):
        remove_channels(program, found, found.groups[0].channels[:1])


def test_a_wrong_channel_in_the_groups_is_caught(small_program: Program) -> None:
    """The proof sees a consumer that keeps another channel than its producer."""
    found = find_groups(small_program)
    labels = found._tensors["5.weight"]
    found._tensors["5.weight"] = (labels[0], (np.roll(labels[1][0], 1),))
    with pytest.raises(ParityError, match="slicing changed the function"):
        remove_channels(small_program, found, found.groups[0].channels[:1])


def _attention(m: Any, x: Any) -> Any:
    y = m.a(x).view(x.shape[0], 5, 2, 4).transpose(1, 2)
    return m.b(F.scaled_dot_product_attention(y, y, y).transpose(1, 2).flatten(2))


LITERALS = {
    "view": (lambda m, x: m.b(m.a(x).view(-1, 8, 64).tanh().view(-1, 8, 8, 8)), convs(), IMAGE),
    "unflatten": (lambda m, x: m.b(m.a(x).flatten(1).unflatten(-1, (8, 64)).mean(-1)),
                  lambda: {"a": conv(3, 8), "b": nn.Linear(8, 4)}, IMAGE),
    "expand": (lambda m, x: m.b(m.a(x) + m.a(x).mean(1, True).expand(-1, 8, 8, 8)), convs(),
               IMAGE),
    "repeat_interleave": (lambda m, x: m.b(m.a(x).repeat_interleave(2, 1, output_size=16)),
                          convs(16), IMAGE),
    "slice": (lambda m, x: m.b(m.a(x)[:, 3:6]), convs(3), IMAGE),
    "narrow": (lambda m, x: m.b(m.a(x).narrow(1, 3, 3)), convs(3), IMAGE),
    "select": (lambda m, x: m.b(m.a(x) + m.a(x)[:, 7].unsqueeze(1)), convs(), IMAGE),
    "split_with_sizes": (lambda m, x: m.b(torch.cat(m.a(x).split([3, 5], 1)[::-1], 1)),
                         convs(), IMAGE),
    "pad": (lambda m, x: m.b(F.pad(m.a(x), (0, 0, 0, 0, 4, 0)) + m.c(x)),
            lambda: {**convs(12)(), "c": conv(3, 12)}, IMAGE),
    "conv2d": (lambda m, x: m.b(m.c(m.a(x))), lambda: {**convs()(), "c": conv(8, 8, groups=8)},
               IMAGE),
    "conv_transpose2d": (lambda m, x: m.b(m.c(m.a(x))), lambda: {
        **convs()(), "c": nn.ConvTranspose2d(8, 8, 2, groups=4)}, IMAGE),
    "channel_shuffle": (lambda m, x: m.b(m.c(m.a(x))),
                        lambda: {**convs(12, 12)(), "c": nn.ChannelShuffle(4)}, IMAGE),
    "layer_norm": (lambda m, x: m.b(F.layer_norm(m.a(x), (8,))), linears(), TOKENS),
    "rms_norm": (lambda m, x: m.b(F.rms_norm(m.a(x), (8,))), linears(), TOKENS),
    "group_norm": (lambda m, x: m.b(F.group_norm(m.a(x), 4)), convs(), IMAGE),
    "scaled_dot_product_attention": (_attention, linears(), TOKENS),
}


@pytest.mark.parametrize("name", LITERALS)
def test_a_size_that_is_not_rewritten_is_caught(name: Any, net: type[Net],
                                                randomise: Callable[..., nn.Module],
                                                choose: Callable[..., list[int]],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    function, build, inputs = LITERALS[name]
    program = Program.capture(randomise(net(function, **build())), inputs)
    found = find_groups(program)
    channels = choose(found)
    remove_channels(program, found, channels)
    monkeypatch.setitem(_rules._TABLE, name, Operator(_rules._TABLE[name].rule))
    with pytest.raises(ParityError, match="slicing changed the function"):
        remove_channels(program, found, channels)


def test_a_sliced_program_that_does_not_run_says_where(net: type[Net],
                                                       choose: Callable[..., list[int]],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    function, build, inputs = LITERALS["layer_norm"]
    program = Program.capture(net(function, **build()), inputs)
    found = find_groups(program)
    monkeypatch.setitem(_rules._TABLE, "layer_norm",
                        Operator(_rules._TABLE["layer_norm"].rule))
    with pytest.raises(ParityError, match=r"differ by inf \(relative\) at layer_norm, which fails: "
                                          "Given normalized_shape"):
        remove_channels(program, found, choose(found))


def test_equal_infinities_are_no_error(net: type[Net], choose: Callable[..., list[int]],
                                       prune: Callable[..., Program]) -> Any:
    """Masked scores of attention are infinite on purpose; errors elsewhere still count."""
    def forward(m: Any, x: Any) -> Any:
        y = m.a(x)
        scores = (y @ y.mT).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        return m.b(scores.softmax(-1) @ y)

    program = Program.capture(net(forward, **linears()()), TOKENS)
    found = find_groups(program)
    channels = choose(found)
    prune(program, channels)
    labels = found._tensors["b.weight"]
    found._tensors["b.weight"] = (labels[0], (np.roll(labels[1][0], 1),))
    with pytest.raises(ParityError, match="slicing changed the function"):
        remove_channels(program, found, channels)
