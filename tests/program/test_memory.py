"""Peak memory against sums by hand and a slow, obvious reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn
from torch.fx import Node

from edgewright.graph import shape_of
from edgewright.program import Program

VIEWS = {"view", "reshape", "flatten", "permute", "slice", "split", "chunk", "dropout", "relu_",
         "add_", "unsqueeze", "unflatten"}


def reference(program: Program) -> Any:
    """At every call, add up the distinct buffers that are made by then and read then or later."""
    def buffer(node: Any) -> Any:
        is_view = node.op == "call_function" and (
            "getitem" in str(node.target) or any(
                f"aten.{view}." in str(node.target) for view in VIEWS))
        return buffer(node.args[0]) if is_view else node

    nodes = [node for node in program.graph.nodes if node.op != "get_attr"]
    peak = 0
    for now, current in enumerate(nodes):
        alive = {buffer(source) for later in nodes[now:] for source in later.all_input_nodes
                 if source in nodes[:now]}
        if current.op == "call_function":
            alive.add(buffer(current))
        alive |= {buffer(node) for node in nodes[:now + 1] if node.op == "placeholder"
                  and any(user in nodes[now:] for user in node.users)}
        peak = max(peak, sum(size(node) for node in alive))
    return peak


def size(node: Node) -> int:
    total = 4
    for extent in shape_of(node):
        total *= extent
    return total


@pytest.fixture(scope="module")
def programs(net: type[Net], resnet: Callable[[int], nn.Module]) -> Any:
    def residual(m: Any, x: Any) -> Any:
        y = m.b(m.a(x).relu())
        return m.c(x + y)

    def parts(m: Any, x: Any) -> Any:
        left, right = m.a(x).chunk(2, 1)
        return torch.cat([left.relu(), right, x], 1).flatten(1)

    def in_place(m: Any, x: Any) -> Any:
        return m.b(torch.relu_(m.a(x))).add_(1.0)

    layers = {name: nn.Conv2d(4, 4, 3, padding=1) for name in "abc"}
    x = torch.zeros(1, 4, 6, 6)
    return {
        "chain": Program.capture(nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 2)),
                                 torch.zeros(1, 4)),
        "residual": Program.capture(net(residual, **layers), x),
        "parts": Program.capture(net(parts, **layers), x),
        "in_place": Program.capture(net(in_place, **layers), x),
        "views": Program.capture(nn.Sequential(nn.Flatten(), nn.Unflatten(1, (6, 24)),
                                               nn.Dropout(), nn.Linear(24, 3)), x),
        "resnet": Program.capture(resnet(1), torch.zeros(1, 3, 32, 32)),
    }


@pytest.mark.parametrize("name", ["chain", "residual", "parts", "in_place", "views", "resnet"])
def test_peak_equals_the_slow_reference(name: str, programs: Any) -> None:
    program = programs[name]
    assert program.costs().peak_activation_bytes == reference(program)


@pytest.mark.parametrize(("name", "floats"), [
    ("chain", 9 + 4),          # the first layer's input and output
    ("residual", 3 * 144),     # the input waits while a layer reads and writes
    ("in_place", 2 * 144),
    ("views", 144 + 6 * 3),    # the flattened input is the input
])
def test_peak_by_hand(name: str, floats: int, programs: Any) -> None:
    assert programs[name].costs().peak_activation_bytes == 4 * floats


def test_tensors_computed_from_weights_take_no_activation_memory(net: type[Net]) -> None:
    model = net(lambda m, x: x * m.w.exp(), w=nn.Parameter(torch.zeros(1, 4)))
    program = Program.capture(model, torch.zeros(1, 4))
    assert program.costs().peak_activation_bytes == 4 * (4 + 4)


def test_bytes_depend_on_the_dtype(net: type[Net]) -> None:
    program = Program.capture(net(lambda m, x: x + x), torch.zeros(1, 10, dtype=torch.int64))
    assert program.costs().peak_activation_bytes == 8 * 20
