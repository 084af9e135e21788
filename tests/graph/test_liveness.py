"""What is needed, who writes where, and what hangs on what is erased."""

from __future__ import annotations

from typing import Any

import torch
from tests.programs import Net
from torch import nn

from edgewright.graph import erase, inputs_reached, live_nodes, memory_of, writes
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
    (writer,) = (node for node in nodes.values() if writes(node))
    assert not writer.users
    assert memory_of(writer) is nodes["linear"]
    assert live_nodes(graph) == set(graph.nodes)


def test_a_swapped_call_keeps_one_source_alive(net: type[Net]) -> None:
    graph, nodes = captured(net, lambda m, x: x + m.a(x).relu_(), torch.zeros(1, 4),
                            a=nn.Linear(4, 4))
    left = live_nodes(graph, (nodes["add"], nodes["x"]))
    assert left == {nodes["x"], nodes["add"], graph.output_node()}


def test_memory_is_followed_through_views_parts_and_pass_throughs(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.a(x)
        part = nn.functional.dropout(y.view(-1, 2, 4), 0.5, False).split(1, 1)[1]
        return part.relu().sum() + (y.flatten(1)[:, 1:] * 2).sigmoid_().sum()

    _, nodes = captured(net, forward, torch.zeros(1, 4), a=nn.Linear(4, 8))
    assert memory_of(nodes["relu"].args[0]) is nodes["linear"]
    assert memory_of(nodes["mul"].args[0]) is nodes["linear"]
    assert memory_of(nodes["sigmoid_"]) is nodes["mul"]
    assert memory_of(nodes["x"]) is nodes["x"]


def test_a_size_is_no_value(net: type[Net]) -> None:
    graph, nodes = captured(net, lambda m, x, y: m.p.expand(x.shape[0], 4) + y,
                            torch.zeros(1, 4), torch.zeros(1, 4), p=nn.Parameter(torch.ones(1, 4)))
    assert nodes["x"] in live_nodes(graph)
    assert inputs_reached(graph.output_node()) == {nodes["y"]}
    assert inputs_reached(nodes["expand"]) == set()


def test_checks_go_with_what_they_look_at(net: type[Net]) -> None:
    graph, nodes = captured(net, lambda m, x: x + m.a(x).to(torch.float32), torch.zeros(1, 4),
                            a=nn.Linear(4, 4))
    assert any("assert" in name for name in nodes)
    total, x = nodes["add"], nodes["x"]
    left = live_nodes(graph, (total, x))
    gone = live_nodes(graph) - left
    total.replace_all_uses_with(x)
    erase(graph, gone | {total})
    assert [node.op for node in graph.nodes] == ["placeholder", "output"]
    graph.lint()
