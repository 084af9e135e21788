"""Masked equals sliced, the saving is the one foretold, and the proof can fail."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils import _pytree as pytree

from edgewright.errors import ParityError, UsageError
from edgewright.program import (
    Program,
    _slicing,
    fold_batch_norm,
    random_inputs,
    remove_channels,
)

IMAGE = (torch.zeros(1, 3, 8, 8),)


def conv(inputs, outputs, size=3, **options):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def zeroed_columns(program, found, channels):
    """The program with the weights that read ``channels`` set to zero, by no mask at all."""
    state = {name: value.clone() for name, value in program.state_dict().items()}
    for channel in channels:
        for (name, dim), indices in found.slices(channel).items():
            if dim == 1:
                state[name][:, torch.from_numpy(indices)] = 0
    return program.with_state(state)


def check(program, channels):
    """Prune, and hold everything a slice promises; returns the sliced program."""
    found = program.groups()
    before = {name: value.clone() for name, value in program.state_dict().items()}
    sliced = remove_channels(program, found, channels)
    torch.testing.assert_close(program.state_dict(), before, rtol=0, atol=0)
    costs = sliced.costs()
    assert found.costs_without(channels) == (costs.macs, costs.parameters)
    expected = zeroed_columns(program, found, channels)
    for batch in (1, 3):
        example = pytree.tree_map(lambda x: x[:1].expand(batch, *x.shape[1:]),  # noqa: B023
                                  program.example_inputs)
        inputs = random_inputs(example, seed=batch)
        torch.testing.assert_close(sliced.run(*inputs), expected.run(*inputs),
                                   rtol=1e-4, atol=1e-5)
    return sliced


def _split(m, x):
    first, second, third = torch.split(m.a(x), [2, 4, 2], dim=1)
    return m.b(torch.cat([third, second.relu(), first], 1))


def _chunk(m, x):
    gate, value = m.a(x).chunk(2, 1)
    return m.b(gate.sigmoid() * value)


def _shortcut(m, x):
    y = m.a(x)
    return m.b(F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + m.c(y))


def _squeeze_excite(m, x):
    y = m.a(x)
    return m.b(y * m.d(m.c(y.mean((2, 3), keepdim=True)).relu()).sigmoid())


def _tied(m, x):
    y = m.a(x)
    return m.c(F.conv2d(m.b(y), m.b.weight) + y)


FORWARDS = {
    "chain": (lambda m, x: m.c(m.b(m.a(x)).relu()),
              {"a": conv(3, 8), "b": nn.BatchNorm2d(8), "c": conv(8, 4)}, IMAGE),
    "residual": (lambda m, x: m.c(m.a(x) + m.b(m.a(x).relu())),
                 {"a": conv(3, 8), "b": conv(8, 8), "c": conv(8, 4)}, IMAGE),
    "shortcut": (_shortcut, {"a": conv(3, 4), "b": conv(8, 4), "c": conv(4, 8, stride=2)}, IMAGE),
    "concat": (lambda m, x: m.c(torch.cat([m.a(x), x, m.b(x)], 1)),
               {"a": conv(3, 4), "b": conv(3, 6), "c": conv(13, 4)}, IMAGE),
    "depthwise": (lambda m, x: m.c(m.b(m.a(x)).relu()),
                  {"a": conv(3, 8), "b": conv(8, 16, groups=8), "c": conv(16, 4)}, IMAGE),
    "grouped": (lambda m, x: m.c(m.b(m.a(x)).relu()),
                {"a": conv(3, 8), "b": conv(8, 12, groups=2), "c": conv(12, 4)}, IMAGE),
    "same_padding": (lambda m, x: m.c(m.b(m.a(x))),
                     {"a": conv(3, 8), "b": nn.Conv2d(8, 8, 3, padding="same", groups=8),
                      "c": conv(8, 4)}, IMAGE),
    "split": (_split, {"a": conv(3, 8), "b": conv(8, 4)}, IMAGE),
    "chunk": (_chunk, {"a": conv(3, 8), "b": conv(4, 4)}, IMAGE),
    "slice": (lambda m, x: m.b(m.a(x)[:, 2:-1]), {"a": conv(3, 8), "b": conv(5, 4)}, IMAGE),
    "slice_without_end": (lambda m, x: m.b(torch.ops.aten.slice.Tensor(m.a(x), 1, 2)),
                          {"a": conv(3, 8), "b": conv(6, 4)}, IMAGE),
    "pad": (lambda m, x: m.b(F.pad(m.a(x), (1, 1, 0, 0, 2, 1), value=3.0)),
            {"a": conv(3, 8), "b": conv(11, 4)}, IMAGE),
    "prelu": (lambda m, x: m.c(m.b(m.a(x))),
              {"a": conv(3, 8), "b": nn.PReLU(8), "c": conv(8, 4)}, IMAGE),
    "prelu_of_one": (lambda m, x: m.c(m.b(m.a(x))),
                     {"a": conv(3, 8), "b": nn.PReLU(), "c": conv(8, 4)}, IMAGE),
    "squeeze_excite": (_squeeze_excite, {"a": conv(3, 8), "b": conv(8, 4), "c": conv(8, 6, 1),
                                         "d": conv(6, 8, 1)}, IMAGE),
    "flatten": (lambda m, x: m.b(m.a(x).flatten(1)),
                {"a": conv(3, 8), "b": nn.Linear(512, 4)}, IMAGE),
    "view": (lambda m, x: m.b(m.a(x).view(x.shape[0], 512)),
             {"a": conv(3, 8), "b": nn.Linear(512, 4)}, IMAGE),
    "unflatten": (lambda m, x: m.b(m.a(x).flatten(1).unflatten(-1, (8, 64)).mean(-1)),
                  {"a": conv(3, 8), "b": nn.Linear(8, 4)}, IMAGE),
    "permute": (lambda m, x: m.b(m.a(x).permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
                                 .mean(-1)), {"a": conv(3, 8), "b": nn.Linear(8, 4)}, IMAGE),
    "pools": (lambda m, x: m.b(F.interpolate(F.max_pool2d(F.avg_pool2d(m.a(x), 2), 2),
                                             scale_factor=2)),
              {"a": conv(3, 8), "b": conv(8, 4)}, IMAGE),
    "tied": (_tied, {"a": conv(3, 8), "b": conv(8, 8, 1, bias=False), "c": conv(8, 4)}, IMAGE),
    "two_inputs": (lambda m, x, y: m.c(m.a(x) * m.b(y)[:, :, None, None]),
                   {"a": conv(3, 8), "b": nn.Linear(5, 8), "c": conv(8, 4)},
                   (*IMAGE, torch.zeros(1, 5))),
    "two_outputs": (lambda m, x: {"a": m.b(m.a(x)), "b": [m.c(m.a(x).relu())]},
                    {"a": conv(3, 8), "b": conv(8, 4), "c": conv(8, 2)}, IMAGE),
    "conv1d": (lambda m, x: m.b(m.a(x).relu()).mean(-1),
               {"a": nn.Conv1d(3, 8, 3), "b": nn.Conv1d(8, 4, 1)}, (torch.zeros(1, 3, 9),)),
    "conv3d": (lambda m, x: m.c(m.b(m.a(x))), {
        "a": nn.Conv3d(2, 6, 2), "b": nn.BatchNorm3d(6), "c": nn.Conv3d(6, 2, 2)},
        (torch.zeros(1, 2, 4, 4, 4),)),
    "positions": (lambda m, x: m.b((m.a(x) + m.p).view(x.shape[0], 30).relu()),
                  {"a": nn.Linear(4, 6), "b": nn.Linear(30, 2),
                   "p": nn.Parameter(torch.randn(1, 5, 6))}, (torch.zeros(1, 5, 4),)),
    "attention_mlp": (lambda m, x: m.a(x), {
        "a": nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)}, (torch.zeros(1, 5, 8),)),
    "tokens": (lambda m, x: m.c(m.b(m.e(x)).relu()),
               {"e": nn.Embedding(7, 6), "b": nn.Linear(6, 8), "c": nn.Linear(8, 4)},
               (torch.tensor([[1, 2, 6]]),)),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_sliced_is_masked(name, net, randomise, choose):
    function, members, inputs = FORWARDS[name]
    program = Program.capture(randomise(net(function, **members)), inputs)
    channels = choose(program.groups(), seed=1)
    assert channels
    sliced = check(program, channels)
    assert sliced.costs().parameters < program.costs().parameters


def test_half_of_resnet20(resnet20_program, choose, tmp_path):
    channels = choose(resnet20_program.groups())
    found = resnet20_program.groups()
    sliced = remove_channels(resnet20_program, found, channels)
    costs = sliced.costs()
    assert found.costs_without(channels) == (costs.macs, costs.parameters)
    assert costs.macs < 0.45 * 40_551_040
    assert costs.parameters < 0.35 * 269_722
    x = torch.randn(1, 3, 32, 32)
    masked = zeroed_columns(resnet20_program, found, channels).run(x)
    torch.testing.assert_close(sliced.run(x), masked, rtol=1e-3, atol=1e-4)
    sliced.save(tmp_path / "p.pt2")
    assert torch.equal(Program.load(tmp_path / "p.pt2").run(x), sliced.run(x))


def test_against_zeros_written_by_hand():
    model = nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 4), nn.Flatten(), nn.Linear(256, 2))
    program = Program.capture(model, IMAGE)
    found = program.groups()
    first, second = found.groups
    sliced = remove_channels(program, found, (first.channels[1], first.channels[4],
                                              second.channels[2]))
    with torch.no_grad():
        model[2].weight[:, [1, 4]] = 0
        model[4].weight[:, 2 * 64:3 * 64] = 0
        x = torch.randn(5, 3, 8, 8)
        torch.testing.assert_close(sliced.run(x), model(x))
    shapes = {name: tuple(value.shape) for name, value in sliced.state_dict().items()}
    assert shapes == {"0.weight": (4, 3, 3, 3), "0.bias": (4,), "2.weight": (3, 4, 3, 3),
                      "2.bias": (3,), "4.weight": (2, 192), "4.bias": (2,)}


def test_a_sliced_program_is_sliced_again_folded_and_trained(resnet, choose):
    program = Program.capture(resnet(1), torch.zeros(1, 3, 16, 16))
    once = check(program, choose(program.groups(), share=0.25))
    twice = check(once, choose(once.groups(), seed=2, share=0.5))
    assert twice.costs().macs < once.costs().macs < program.costs().macs
    folded = fold_batch_norm(program)
    folded = check(folded, choose(folded.groups(), seed=3))
    x = torch.randn(2, 3, 16, 16)
    assert folded.run(x).shape == (2, 10)
    module = twice.module(train=True)
    module(x).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_removing_nothing_changes_nothing(small_program):
    same = remove_channels(small_program, small_program.groups(), ())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(same.run(x), small_program.run(x))


def test_exits_and_training_flags_are_kept():
    model = nn.Sequential(nn.Linear(4, 6).requires_grad_(False), nn.Linear(6, 2))
    program = Program.capture(model, torch.zeros(1, 4))
    program.exits = 1
    found = program.groups()
    sliced = remove_channels(program, found, found.groups[0].channels[:1])
    assert sliced.exits == 1
    flags = {name: value.requires_grad for name, value in sliced.graph_module.named_parameters()}
    assert flags == {"0.weight": False, "0.bias": False, "1.weight": True, "1.bias": True}


def test_what_is_in_no_group_cannot_be_removed(small_program):
    found = small_program.groups()
    pinned = int(found.tensor("5.weight")[0][0])
    for channel in (pinned, -1, 10**9):
        with pytest.raises(UsageError, match=f"{channel} is no channel that can be removed"):
            remove_channels(small_program, found, (found.groups[0].channels[0], channel))


def test_removing_a_whole_group_is_refused(small_program):
    found = small_program.groups()
    with pytest.raises(UsageError, match=r"all 4 indices of 0\.weight, dimension 0, would be "
                                         r"removed; keep at least one channel of every group"):
        remove_channels(small_program, found, found.groups[0].channels)


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.running_mean", "5.weight"])
def test_a_wrong_slice_is_caught(name, small_program, monkeypatch):
    found = small_program.groups()
    right = _slicing._slice_tensors

    def wrong(program, module, groups, gone):
        right(program, module, groups, gone)
        owner, _, leaf = name.rpartition(".")
        tensor = getattr(module.get_submodule(owner), leaf)
        tensor.data = tensor.data.roll(1, dims=0)

    monkeypatch.setattr(_slicing, "_slice_tensors", wrong)
    with pytest.raises(ParityError, match=r"slicing changed the function: .* at most 0\.0001 is "
                                          "allowed; the program was left as it was"):
        remove_channels(small_program, found, found.groups[0].channels[:1])


def test_a_wrong_slice_is_caught_where_the_right_output_is_zero(monkeypatch):
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        model[1].weight.zero_()
    program = Program.capture(model, torch.zeros(1, 4))
    found = program.groups()
    right = _slicing._slice_tensors

    def wrong(*args):
        right(*args)
        args[1].get_parameter("1.weight").data += 1

    monkeypatch.setattr(_slicing, "_slice_tensors", wrong)
    with pytest.raises(ParityError, match="slicing changed the function"):
        remove_channels(program, found, found.groups[0].channels[:1])


def test_a_wrong_channel_in_the_groups_is_caught(small_program):
    """The proof sees a consumer that keeps another channel than its producer."""
    found = small_program.groups()
    labels = found._tensors["5.weight"]
    found._tensors["5.weight"] = (labels[0], np.roll(labels[1], 1))
    with pytest.raises(ParityError, match="slicing changed the function"):
        remove_channels(small_program, found, found.groups[0].channels[:1])


def test_random_inputs_are_noise_of_the_same_kind():
    example = ({"a": torch.zeros(2, 3)}, torch.tensor([1, 2]), torch.zeros(2, dtype=torch.float64))
    first, again, other = (random_inputs(example, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0]["a"], again[0]["a"])
    assert not torch.equal(first[0]["a"], other[0]["a"])
    assert (first[0]["a"].shape, first[2].dtype) == ((2, 3), torch.float64)
    assert torch.equal(first[1], example[1])


class RandomNet(nn.Module):
    """A stack of drawn steps, every one from a tensor of channels to another."""

    def __init__(self, steps, widths):
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList()
        channels, self.side = 2, 4
        for step, width in zip(steps, widths, strict=True):
            layer, channels = getattr(self, f"make_{step}")(channels, width)
            self.layers.append(layer)
            self.side = self.side // 2 if step == "pool" and self.side > 1 else self.side
        self.head = nn.Linear(channels * self.side ** 2, 3)

    def make_conv(self, channels, width):
        return conv(channels, width), width

    def make_depthwise(self, channels, width):
        return conv(channels, channels * (1 + width % 2), groups=channels), \
            channels * (1 + width % 2)

    def make_grouped(self, channels, width):
        if channels % 2:
            return self.make_conv(channels, width)
        return conv(channels, 2 * width, 1, groups=2), 2 * width

    def make_relu(self, channels, width):
        return nn.Identity(), channels

    def make_norm(self, channels, width):
        return nn.BatchNorm2d(channels), channels

    def make_prelu(self, channels, width):
        return nn.PReLU(channels), channels

    def make_add(self, channels, width):
        return conv(channels, channels, 1), channels

    def make_cat(self, channels, width):
        return conv(channels, width, 1), channels + width

    def make_chunk(self, channels, width):
        return nn.Identity(), channels // 2 if channels % 2 == 0 else channels

    def make_swap(self, channels, width):
        return nn.Identity(), channels

    def make_pad(self, channels, width):
        return nn.Identity(), channels + 2

    def make_gate(self, channels, width):
        return nn.Linear(channels, channels), channels

    def make_pool(self, channels, width):
        return nn.Identity(), channels

    def forward(self, x):
        for step, layer in zip(self.steps, self.layers, strict=True):
            x = self.apply_step(step, layer, x)
        return self.head(x.flatten(1))

    def apply_step(self, step, layer, x):
        y = layer(x) if step not in ("gate",) else None
        half = x.shape[1] // 2
        if step == "relu":
            return y.relu()
        if step == "add":
            return x + y
        if step == "cat":
            return torch.cat([x, y], 1)
        if step == "chunk" and x.shape[1] % 2 == 0:
            first, second = x.chunk(2, 1)
            return first * second.sigmoid()
        if step == "swap" and half:
            return torch.cat([x[:, half:], x[:, :half].tanh()], 1)
        if step == "pad":
            return F.pad(x, (0, 0, 0, 0, 1, 1))
        if step == "gate":
            return x * layer(x.mean((2, 3))).sigmoid()[:, :, None, None]
        if step == "pool" and x.shape[-1] > 1:
            return F.avg_pool2d(x, 2)
        return y


STEPS = [name.removeprefix("make_") for name in vars(RandomNet) if name.startswith("make_")]


@settings(max_examples=15, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(2, 5)),
                      min_size=1, max_size=5), seed=st.integers(0, 99))
def test_random_networks_keep_their_function(steps, seed, randomise, choose):
    torch.manual_seed(seed)
    layers, widths = zip(*[("conv", 4), *steps], strict=True)
    model = randomise(RandomNet(layers, widths), seed).eval()
    program = Program.capture(model, torch.zeros(1, 2, 4, 4))
    sliced = check(program, choose(program.groups(), seed))
    assert sliced.run(torch.zeros(5, 2, 4, 4)).shape == (5, 3)
    with tempfile.TemporaryDirectory() as folder:
        sliced.save(Path(folder) / "p.pt2")
        loaded = Program.load(Path(folder) / "p.pt2")
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(loaded.run(x), sliced.run(x))
    assert loaded.costs() == sliced.costs()
