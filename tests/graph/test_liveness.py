"""Liveness, in-place writers, and erasing nodes together with their assertions."""

from __future__ import annotations

from typing import Any

import torch
from tests.programs import Net
from torch import nn

from edgewright.graph._liveness import (
    alias_root,
    erase_nodes,
    find_live_nodes,
    input_dependencies,
    mutates_in_place,
)
from edgewright.program import Program


def captured(net: Any, forward: Any, *inputs: Any, **members: Any) -> tuple[Any, ...]:
    program = Program.capture(net(forward, **members), inputs)
    nodes = {node.name: node for node in program.graph.nodes}
    places = (node for node in program.graph.nodes if node.op == "placeholder")
    return program.graph, {**nodes, **dict(zip("xy", places, strict=False))}


def test_writers_of_live_memory_are_live(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.a(x)
        y[:, :2] = m.b(x)  # nobody reads the call's own result
        return y

    graph, nodes = captured(net, forward, torch.zeros(1, 4), a=nn.Linear(4, 4), b=nn.Linear(4, 2))
    (writer,) = (node for node in nodes.values() if mutates_in_place(node))
    assert not writer.users
    assert alias_root(writer) is nodes["linear"]
    assert find_live_nodes(graph) == set(graph.nodes)


def test_a_bypassed_call_keeps_only_one_source_live(net: type[Net]) -> None:
    graph, nodes = captured(net, lambda m, x: x + m.a(x).relu_(), torch.zeros(1, 4),
                            a=nn.Linear(4, 4))
    left = find_live_nodes(graph, (nodes["add"], nodes["x"]))
    assert left == {nodes["x"], nodes["add"], graph.output_node()}


def test_alias_root_follows_views_splits_and_pass_through_operators(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.a(x)
        part = nn.functional.dropout(y.view(-1, 2, 4), 0.5, False).split(1, 1)[1]
        return part.relu().sum() + (y.flatten(1)[:, 1:] * 2).sigmoid_().sum()

    _, nodes = captured(net, forward, torch.zeros(1, 4), a=nn.Linear(4, 8))
    assert alias_root(nodes["relu"].args[0]) is nodes["linear"]
    assert alias_root(nodes["mul"].args[0]) is nodes["linear"]
    assert alias_root(nodes["sigmoid_"]) is nodes["mul"]
    assert alias_root(nodes["x"]) is nodes["x"]


def test_sizes_are_not_value_dependencies(net: type[Net]) -> None:
    graph, nodes = captured(net, lambda m, x, y: m.p.expand(x.shape[0], 4) + y,
                            torch.zeros(1, 4), torch.zeros(1, 4), p=nn.Parameter(torch.ones(1, 4)))
    assert nodes["x"] in find_live_nodes(graph)
    assert input_dependencies(graph.output_node()) == {nodes["y"]}
    assert input_dependencies(nodes["expand"]) == set()


def test_assertions_are_erased_with_their_inputs(net: type[Net]) -> None:
    graph, nodes = captured(net, lambda m, x: x + m.a(x).to(torch.float32), torch.zeros(1, 4),
                            a=nn.Linear(4, 4))
    assert any("assert" in name for name in nodes)
    total, x = nodes["add"], nodes["x"]
    left = find_live_nodes(graph, (total, x))
    gone = find_live_nodes(graph) - left
    total.replace_all_uses_with(x)
    erase_nodes(graph, gone | {total})
    assert [node.op for node in graph.nodes] == ["placeholder", "output"]
    graph.lint()
