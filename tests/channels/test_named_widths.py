"""Widths by name: which names a group has, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import Tensor, nn

from edgewright.channels import find_branches, find_groups, remove_branch, remove_channels
from edgewright.channels import resolve_widths as resolve
from edgewright.errors import UsageError
from edgewright.program import Program


def widths_by_group(program: Program, widths: dict[str, int]) -> dict[str, int]:
    groups = find_groups(program)
    return dict(zip((group.name for group in groups.groups), resolve(program, groups, widths),
                    strict=True))


@pytest.fixture(scope="module")
def attention() -> Program:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (m.q, m.k, m.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return m.out(y.transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    layers = {name: nn.Linear(12, 8) for name in ("q", "k", "v")}
    return Program.capture(Net(forward, **layers, out=nn.Linear(8, 12)), torch.zeros(1, 5, 12))


def test_groups_without_a_name_keep_all_channels(resnet20_program: Program) -> None:
    found = widths_by_group(resnet20_program, {"layer1.0.conv1": 3, "conv1.weight": 5})
    assert found.pop("layer1.0.conv1.weight") == 3
    assert found.pop("conv1.weight") == 5
    full = {group.name: len(group.channels) for group in find_groups(resnet20_program).groups}
    assert found == {name: full[name] for name in found}


def test_every_layer_that_computes_a_group_names_it(resnet20_program: Program) -> None:
    for name in ("conv1", "layer1.0.conv2", "layer1.2.conv2.weight"):  # added to each other
        assert widths_by_group(resnet20_program, {name: 7})["conv1.weight"] == 7
    with pytest.raises(UsageError, match=re.escape(
            "widths: 'conv1' and 'layer1.2.conv2' are the same group")):
        widths_by_group(resnet20_program, {"conv1": 7, "layer1.2.conv2": 7})


def test_names_stay_valid_after_other_groups_and_blocks_were_removed(
        resnet20_program: Program) -> None:
    groups = find_groups(resnet20_program)
    narrow = remove_channels(resnet20_program, groups, groups.groups[0].channels[:4])
    branch = next(found for found in find_branches(narrow) if found.name == "layer1.0")
    short = remove_branch(narrow, branch)
    found = widths_by_group(short, {"layer1.1.conv1": 3, "layer1.2.conv2": 2})
    assert (found["layer1.1.conv1.weight"], found["conv1.weight"]) == (3, 2)
    with pytest.raises(UsageError, match=r"'layer1\.0\.conv1' is no group; similar names: "
                                         r".*layer1\.1\.conv1"):
        widths_by_group(short, {"layer1.0.conv1": 3})


def test_a_transposed_convolution_names_its_outputs(net: type[Net]) -> None:
    model = net(lambda m, x: m.head(m.up(m.stem(x))), stem=nn.Conv2d(3, 8, 3),
                up=nn.ConvTranspose2d(8, 6, 2), head=nn.Conv2d(6, 4, 1))
    program = Program.capture(model, torch.zeros(1, 3, 8, 8))
    assert widths_by_group(program, {"up": 2, "stem": 5}) == {"stem.weight": 5, "up.weight": 2}


def test_a_product_is_named_as_it_is_printed(attention: Program) -> None:
    found = widths_by_group(attention, {"q.weight by 4": 1, "v.weight by 2": 3})
    assert found == {"q.weight by 4": 1, "q.weight by 2": 4, "v.weight by 2": 3}
    with pytest.raises(UsageError, match=re.escape(
            "widths: 'q' is in 2 groups; use one of their names: 'q.weight by 4', "
            "'q.weight by 2'")):
        widths_by_group(attention, {"q": 3})


def test_removing_the_channels_of_a_product_gives_its_sizes(attention: Program) -> None:
    groups = find_groups(attention)
    kept = resolve(attention, groups, {"q.weight by 4": 1, "q.weight by 2": 3,
                                       "v.weight by 2": 2})
    removed = [channel for group, width in zip(groups.groups, kept, strict=True)
               for channel in group.channels[width:]]
    state = remove_channels(attention, groups, removed).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items() if value.ndim == 2} == {
        "q.weight": (1 * 3, 12), "k.weight": (1 * 3, 12), "v.weight": (1 * 2, 12),
        "out.weight": (12, 1 * 2)}


@pytest.mark.parametrize(("widths", "message"), [
    ({"layer1.0.conv11": 3}, "'layer1.0.conv11' is no group; similar names: layer1.0.conv1, "),
    ({"x": 3}, "'x' is no group; groups: conv1.weight, layer1.0.conv1.weight, "),
    ({"x": 3}, " and 7 more"),
    ({"linear": 3}, "'linear' cannot be pruned: it is an output"),
    ({"linear.weight": 3}, "'linear.weight' cannot be pruned: it is an output"),
    ({"conv1": 17}, "'conv1' has 16 channels, expected a width from 1 to 16, got 17"),
    ({"conv1": 0}, "'conv1' has 16 channels, expected a width from 1 to 16, got 0")])
def test_unknown_names_and_widths_are_refused(resnet20_program: Program, widths: dict[str, int],
                                              message: str) -> None:
    with pytest.raises(UsageError, match=f"^widths: .*{re.escape(message)}"):
        widths_by_group(resnet20_program, widths)


def test_all_faults_are_in_one_line(resnet20_program: Program) -> None:
    with pytest.raises(UsageError) as caught:
        widths_by_group(resnet20_program, {"x": 1, "linear": 2, "conv1": 99, "conv2": 1})
    message = str(caught.value)
    assert "\n" not in message
    assert all(f"'{name}'" in message for name in ("x", "linear", "conv1", "conv2"))
