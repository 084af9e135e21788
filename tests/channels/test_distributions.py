"""Softmaxes summed with fixed numbers or read by index are kept; constants are not groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.channels import find_groups, remove_channels
from edgewright.program import Program

IMAGE = torch.zeros(1, 3, 4, 4)


class Boxes(nn.Module):
    """Distances in 16 bins, as detectors predict them: four distributions at every place."""

    def __init__(self, expect: Any) -> None:
        super().__init__()
        self.a, self.b, self.expect = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 64, 1), expect
        bins = torch.arange(16.0)
        self.frozen = nn.Conv2d(16, 1, 1, bias=False).requires_grad_(False)
        self.frozen.weight.data.copy_(bins.reshape(1, 16, 1, 1))
        self.trained = nn.Conv2d(16, 1, 1, bias=False)
        self.parameter = nn.Parameter(bins.clone(), requires_grad=False)
        self.register_buffer("bins", bins)
        self.attribute = bins.clone()

    def forward(self, x: Tensor) -> Tensor:
        return self.expect(self, self.b(self.a(x).relu()).flatten(2).unflatten(1, (4, 16)))


EXPECTATIONS = {
    "a frozen convolution": lambda m, x: m.frozen(x.transpose(2, 1).softmax(1))[:, 0],
    "a convolution to one number": lambda m, x: m.trained(x.transpose(2, 1).softmax(1))[:, 0],
    "a sum of products": lambda m, x: (x.softmax(2) * m.bins.reshape(1, 1, -1, 1)).sum(2),
    "products the other way": lambda m, x: (m.bins[:, None] * x.softmax(2)).sum(dim=(2,)),
    "a mean": lambda m, x: 16 * (x.softmax(2) * m.bins[:, None]).mean(2),
    "a matrix product": lambda m, x: x.transpose(2, 3).softmax(3).matmul(m.bins),
    "a frozen parameter": lambda m, x: x.transpose(2, 3).softmax(3).matmul(m.parameter),
    "an attribute": lambda m, x: (x.softmax(2) * m.attribute[:, None]).sum(2),
    "a linear map": lambda m, x: F.linear(
        x.transpose(2, 3).softmax(3), m.bins.type_as(x).reshape(1, -1))[..., 0],
    "einsum": lambda m, x: torch.einsum("bfka,k->bfa", x.softmax(2), m.bins),
    "groups": lambda m, x: F.conv1d(x.softmax(2).flatten(1, 2), m.bins.reshape(1, 16, 1).repeat(
        4, 1, 1), groups=4),
    "all but the first": lambda m, x: x.softmax(2)[:, :, 1:].sum(2),
    "half of them": lambda m, x: x.softmax(2).chunk(2, 2)[0].sum(2),
}


@pytest.mark.parametrize("expect", EXPECTATIONS.values(), ids=EXPECTATIONS)
def test_bins_of_an_expectation_are_kept(expect: Any) -> None:
    found = find_groups(Program.capture(Boxes(expect).eval(), IMAGE))
    assert [group.name for group in found.groups] == ["a.weight"]
    assert found.kept["b.weight"].startswith("softmax makes it a distribution, ")


def test_the_reason_names_what_reads_the_bins() -> None:
    found = find_groups(Program.capture(Boxes(EXPECTATIONS["a sum of products"]).eval(), IMAGE))
    assert found.kept["b.weight"] == ("softmax makes it a distribution, which sum_1 sums with "
                                      "fixed numbers")


class Mixture(nn.Module):
    """Shares of experts, or of codes, weigh what is computed or learnt for each."""

    def __init__(self, weigh: Any) -> None:
        super().__init__()
        self.a, self.gate, self.b = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)
        self.codes, self.c, self.weigh = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 6), weigh

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.weigh(self, x))


MIXTURES = {
    "shares of what is computed": lambda m, x: m.a(x) * m.gate(x).softmax(-1),
    "a learnt code book": lambda m, x: m.gate(x).softmax(-1) @ m.codes,
    "a learnt layer": lambda m, x: m.c(m.gate(x).softmax(-1)),
}


@pytest.mark.parametrize("weigh", MIXTURES.values(), ids=MIXTURES)
def test_mixture_weights_of_trained_values_are_pruned(weigh: Any,
                                                      choose: Callable[..., list[int]]) -> None:
    program = Program.capture(Mixture(weigh).eval(), torch.zeros(1, 4))
    groups = find_groups(program)
    gate = [group for group in groups.groups if ("gate.weight", 0) in group.slices]
    assert len(gate) == 1
    sliced = remove_channels(program, groups, gate[0].channels[:3])
    assert sliced.state_dict()["gate.weight"].shape == (3, 4)


class Positions(nn.Module):
    """Ids of positions in a buffer longer than the sequence, as in Hugging Face's BERT."""

    def __init__(self, ids: Any) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(50, 16), nn.Embedding(16, 16)
        self.a, self.b, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 3)
        self.spare = nn.Parameter(torch.randn(1, 16, 16))
        self.ids = ids

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.word(tokens) + self.place(self.ids[:, :length]) + self.spare[:, :length]
        return self.head((x + self.b(self.a(x).relu())).mean(1))


@pytest.mark.parametrize("ids", [
    torch.arange(16)[None], nn.Parameter(torch.arange(16)[None], requires_grad=False),
    nn.Buffer(torch.arange(16)[None])], ids=["attribute", "parameter", "buffer"])
def test_constants_are_not_groups(ids: Any) -> None:
    tokens = torch.randint(0, 50, (1, 10))
    found = find_groups(Program.capture(Positions(ids).eval(), tokens))
    assert [(group.name, len(group.channels)) for group in found.groups] == [
        ("b.weight", 16), ("a.weight", 32)]


def test_a_frozen_row_of_constants_is_not_a_group() -> None:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rates = nn.Parameter(torch.arange(1.0, 9.0), requires_grad=False)
            self.a = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) * (x[..., :1] * self.rates).sin().mean(-1, keepdim=True)

    assert find_groups(Program.capture(Features(), torch.zeros(1, 4))).groups == ()


def test_buffers_coupled_to_a_parameter_are_sliced_with_it(choose: Callable[..., list[int]]) -> None:
    """Sines of positions lie along the width that the layers share."""
    class Sines(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(4, 16), nn.Linear(16, 3)
            self.register_buffer("sines", torch.randn(1, 5, 16).sin())

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.embed(x) + self.sines).relu().mean(1))

    program = Program.capture(Sines(), torch.zeros(1, 5, 4))
    groups = find_groups(program)
    sliced = remove_channels(program, groups, choose(groups))
    assert sliced.state_dict()["sines"].shape == (1, 5, 8)


def test_a_frozen_network_is_pruned() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).requires_grad_(False)
    found = find_groups(Program.capture(model, torch.zeros(1, 4)))
    assert [(group.name, len(group.channels)) for group in found.groups] == [("0.weight", 8)]


class Layers(nn.Module):
    """Layers whose outputs are not the first dimension of their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.ConvTranspose2d(3, 8, 2), nn.Conv2d(8, 4, 1)
        self.words, self.mix = nn.Embedding(9, 6), nn.Parameter(torch.randn(6, 7))
        self.shift, self.head = nn.Parameter(torch.randn(7)), nn.Linear(7, 2)

    def forward(self, x: Tensor, tokens: Tensor) -> Any:
        y = (self.words(tokens) @ self.mix + self.shift).relu()
        return self.down(self.up(x)), self.head(y)


UP = ("up.weight", "up.bias", "down.weight")
WORDS = ("mix", "words.weight")
MIX = ("mix", "shift", "head.weight")


@pytest.mark.parametrize(("pattern", "left"), [
    ("up", [WORDS, MIX]), ("words", [MIX, UP]), ("mix", [WORDS, UP]), ("shift", [WORDS, UP]),
    ("down", [WORDS, MIX, UP]), ("head", [WORDS, MIX, UP])])
def test_ignore_keeps_only_the_outputs_of_a_tensor(pattern: str, left: list[Any]) -> None:
    program = Program.capture(Layers(), (torch.zeros(1, 3, 4, 4), torch.zeros(1, 5).long()))
    found = find_groups(program, (pattern,)).groups
    assert [tuple(name for name, _ in group.slices) for group in found] == left
