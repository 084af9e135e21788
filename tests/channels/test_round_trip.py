"""A pruned program is loaded bit-identical from its file and can be pruned further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn

from edgewright.channels import apply_to, find_groups, remove_channels
from edgewright.graph import draw_random_inputs
from edgewright.program import Program


def conv(inputs: Any, outputs: Any, size: int = 3, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def _attention(m: Any, x: Any) -> Any:
    y = m.norm(x)
    query, key, value = m.query(y), m.key(y), m.value(y)
    weights = (query @ key.transpose(1, 2) / 3).softmax(-1)
    x = x + m.out(weights @ value)
    return m.head((x + m.down(m.up(x).relu())).mean(1))


def _tied(m: Any, x: Any) -> Any:
    y = m.a(x)
    return m.c(nn.functional.conv2d(m.b(y), m.b.weight) + y)


IMAGE = torch.zeros(1, 3, 8, 8)
MODELS: dict[str, tuple[Any, ...]] = {
    "convolutions": (lambda m, x: m.c(m.b(m.a(x)).relu()),
                     {"a": conv(3, 8), "b": nn.BatchNorm2d(8), "c": conv(8, 4)}, (IMAGE,)),
    "attention": (_attention, {
        "norm": nn.LayerNorm(8), "query": nn.Linear(8, 6), "key": nn.Linear(8, 6),
        "value": nn.Linear(8, 6), "out": nn.Linear(6, 8), "up": nn.Linear(8, 12),
        "down": nn.Linear(12, 8), "head": nn.Linear(8, 3)}, (torch.zeros(1, 5, 8),)),
    "tied": (_tied, {"a": conv(3, 8), "b": conv(8, 8, 1, bias=False), "c": conv(8, 4)}, (IMAGE,)),
    "two_inputs": (lambda m, x, y: m.c(m.a(x) * m.b(y)[:, :, None, None]),
                   {"a": conv(3, 8), "b": nn.Linear(5, 8), "c": conv(8, 4)},
                   (IMAGE, torch.zeros(1, 5))),
}


def check(program: Program, choose: Any, folder: Path) -> Any:
    for step in range(2):
        groups = find_groups(program)
        pruned = remove_channels(program, groups, choose(groups, seed=step, share=0.4))
        assert pruned.costs().parameters < program.costs().parameters
        pruned.save(folder / "p.pt2")
        program = Program.load(folder / "p.pt2")
        assert program.costs() == pruned.costs()
        for batch in (1, 3):
            example = tuple(x[:1].expand(batch, *x.shape[1:]) for x in pruned.example_inputs)
            inputs = draw_random_inputs(example, seed=batch)
            assert torch.equal(program.run(*inputs), pruned.run(*inputs))
    return program


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_equal_bit_for_bit(net: type[Net], choose: Callable[..., list[int]],
                                       randomise: Callable[..., nn.Module], tmp_path: Path,
                                       name: Any) -> None:
    forward, members, inputs = MODELS[name]
    check(Program.capture(randomise(net(forward, **members)).eval(), inputs), choose, tmp_path)


def test_padded_shortcuts(resnet: Callable[[int], nn.Module], choose: Callable[..., list[int]],
                          tmp_path: Path) -> None:
    check(Program.capture(resnet(1), torch.zeros(1, 3, 32, 32)), choose, tmp_path)


def test_tied_weights_stay_tied(net: type[Net], choose: Callable[..., list[int]],
                                tmp_path: Path) -> None:
    first, second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
    second.weight = first.weight
    model = net(lambda m, x: m.c(m.b(m.a(m.s(x)).relu()).relu()), s=nn.Linear(4, 6), a=first,
                b=second, c=nn.Linear(6, 3))
    loaded = check(Program.capture(model, torch.zeros(1, 4)), choose, tmp_path)
    assert loaded.costs().parameters == sum(
        value.numel() for value in loaded.module().parameters())
    assert apply_to(loaded, model).left == ()
    assert model.a.weight is model.b.weight
