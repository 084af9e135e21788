"""Blocks, widths and bits in one program: costs against real slicing, answers against enumeration."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pytest
import torch
from tests.allocation.enumeration import enumerate_choices
from torch import Tensor, nn

from edgewright.allocation import (
    Bits,
    Damages,
    JointSpace,
    Keep,
    LatencyTable,
    LayerTimes,
    Width,
    make_joint_problem,
    read_answer,
    select_blocks,
    solve_choices,
)
from edgewright.channels import find_branches, find_groups, remove_branch, remove_channels
from edgewright.program import Program, fold_batch_norm


class Block(nn.Module):
    """A residual block with batch norms."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (x + self.bn2(self.conv2(y))).relu()


@pytest.fixture(scope="module")
def space() -> JointSpace:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Block(8, 6), Block(8, 4), nn.AdaptiveAvgPool2d(1),
                          nn.Flatten(), nn.Linear(8, 5)).eval()
    program = Program.capture(model, torch.zeros(2, 3, 8, 8))
    groups = find_groups(program)
    widths = [np.array([len(group.channels) // 2, len(group.channels)])
              for group in groups.groups]
    weights = [name for name, tensor in program.state_dict().items()
               if name.endswith("weight") and tensor.ndim > 1]
    return JointSpace(program, groups, widths, select_blocks(find_branches(program)),
                      dict.fromkeys(weights, (4, 8)))


@pytest.fixture(scope="module")
def damages(space: JointSpace) -> Damages:
    rng = np.random.default_rng(0)
    return Damages({block.name: float(rng.random()) for block in space.blocks},
                   [np.array([rng.random(), 0.0]) for _ in space.widths],
                   {name: [0.3 * float(rng.random()), 0.0] for name in space.bits},
                   {(space.blocks[0].name, space.blocks[1].name): 0.4})


def build(space: JointSpace, options: dict[Hashable, int]) -> Program:
    """Really slice the widths and remove the blocks."""
    removed = []
    for index, group in enumerate(space.groups.groups):
        kept = int(space.widths[index][options[Width(index)]])
        removed += list(group.channels[kept:])
    program = remove_channels(space.program, space.groups, removed)
    for block in space.blocks:
        if options[Keep(block.name)]:
            branch = next(one for one in find_branches(program) if one.name == block.name)
            program = remove_branch(program, branch)
    return program


@pytest.mark.parametrize("seed", range(6))
def test_costs_are_those_of_the_program_that_is_built(space: JointSpace, damages: Damages,
                                                      seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = make_joint_problem(space, damages, {})
    options: dict[Hashable, int] = {name: int(rng.integers(count))
                                    for name, count in problem.decisions.items()}
    gone = {tensor for block in space.blocks if options[Keep(block.name)]
            for tensor in block.tensors}
    options |= {Bits(name): 2 if name in gone else int(rng.integers(2)) for name in space.bits}
    built = build(space, options)
    predicted = problem.costs_of(options)
    assert predicted["macs"] == built.costs().macs
    folded = fold_batch_norm(built).state_dict()
    expected = sum(tensor.numel() * space.bits[name][options[Bits(name)]] / 8 + 4 * len(tensor)
                   if name in space.bits else 4 * tensor.numel()
                   for name, tensor in folded.items())
    assert predicted["size"] == expected


def test_answers_are_the_best_of_all(space: JointSpace, damages: Damages) -> None:
    problem = make_joint_problem(space, damages, {})
    full = problem.costs_of({name: {Keep: 0, Width: count - 1, Bits: 1}[type(name)]
                             for name, count in problem.decisions.items()})
    limited = make_joint_problem(space, damages, {"size": 0.5 * full["size"],
                                                  "macs": 0.6 * full["macs"]})
    reference = enumerate_choices(limited)[0]
    found = next(solve_choices(limited))
    assert found.damage == pytest.approx(reference.damage, rel=2e-3)
    assert found.gap <= 1e-3


@pytest.mark.parametrize("removed", [(), (0,), (1,), (0, 1)])
def test_two_blocks_do_the_damage_of_both_and_of_the_pair(space: JointSpace, damages: Damages,
                                                          removed: tuple[int, ...]) -> None:
    problem = make_joint_problem(space, damages.scale(blocks=3.0), {})
    options = {decision: count - 1 for decision, count in problem.decisions.items()}
    kept = [place for place in range(2) if place not in removed]
    for place, block in enumerate(space.blocks):
        options[Keep(block.name)] = int(place in removed)
    for place in kept:
        for weight in set(space.bits) & set(space.blocks[place].tensors):
            options[Bits(weight)] = 1
    alone = sum(damages.blocks[space.blocks[place].name] for place in removed)
    pair = 0.4 if len(removed) == 2 else 0.0
    assert problem.damage_of(options) == pytest.approx(3 * (alone + pair))


def test_a_removed_block_has_no_bits_and_no_widths(space: JointSpace, damages: Damages) -> None:
    cheap = Damages(dict.fromkeys(damages.blocks, 0.0), damages.widths, damages.bits)
    problem = make_joint_problem(space, cheap, {"macs": 15_000})
    answer = read_answer(space, next(solve_choices(problem)))
    assert answer.removed == ("1", "2")
    assert not any(name.startswith(("1.", "2.")) for name in (*answer.bits, *answer.widths))


def test_latency_is_limited_by_the_table(space: JointSpace, damages: Damages) -> None:
    times = {name: LayerTimes((1, 8), (1, 8), ((1.0, 2.0), (2.0, 4.0)))
             for name in space.bits if name != "5.weight"}
    table = LatencyTable("a clock", times)
    free = make_joint_problem(space, damages, {}, table)
    slowest = next(solve_choices(free)).costs["latency"]
    limited = make_joint_problem(space, damages, {"latency": 0.5 * slowest}, table)
    reference = enumerate_choices(limited)[0]
    found = next(solve_choices(limited))
    assert found.costs["latency"] <= 0.5 * slowest
    assert found.damage == pytest.approx(reference.damage, rel=2e-3)


def test_memory_is_limited(space: JointSpace, damages: Damages) -> None:
    free = next(solve_choices(make_joint_problem(space, damages, {"ram": 1e9})))
    limited = next(solve_choices(make_joint_problem(space, damages, {"ram": 0.6 * free.costs["ram"]})))
    assert limited.costs["ram"] <= 0.6 * free.costs["ram"]
    assert limited.damage > free.damage
