"""The captured graph holds what computes something, and sizes near their use."""

from __future__ import annotations

from typing import Any

import torch
from tests.programs import Net
from torch import fx, nn
from torch.fx import Graph, GraphModule

from edgewright.graph import drop_unused_tensors, tidy
from edgewright.program import Program


def names_of(model: nn.Module, inputs: Any) -> Any:
    return [node.name for node in Program.capture(model, inputs).calls()]


def test_whole_slices_are_dropped(net: type[Net]) -> None:
    model = net(lambda m, x: x[:][:, :][:, 0:].relu()[:, ::2])
    program = Program.capture(model, torch.zeros(1, 4))
    calls = list(program.calls())
    assert [node.target for node in calls] == [torch.ops.aten.relu.default,
                                               torch.ops.aten.slice.Tensor]
    x = torch.randn(3, 4)
    assert torch.equal(program.run(x), x.relu()[:, ::2])


def test_parts_are_kept(net: type[Net]) -> None:
    for index in (slice(1, None), slice(None, 3), slice(None, None, 2), slice(None, -1)):
        model = net(lambda m, x, index=index: x[:, index] * 1)
        program = Program.capture(model, torch.zeros(1, 4))
        assert any("slice" in node.name for node in program.calls())
        x = torch.randn(3, 4)
        assert torch.equal(program.run(x), x[:, index])


def test_a_size_is_read_off_the_calls_own_input(net: type[Net]) -> None:
    model = net(lambda m, x: m.b(m.a(x).relu().view(x.shape[0], -1)),
                a=nn.Conv2d(3, 4, 3), b=nn.Linear(144, 2))
    program = Program.capture(model, torch.zeros(1, 3, 8, 8))
    (size,) = (node for node in program.calls() if "sym_size" in node.name)
    (view,) = size.users
    assert size.args[0] is view.args[0]
    assert isinstance(size.args[0], fx.Node)
    assert size.args[0].name == "relu"
    assert program.run(torch.zeros(5, 3, 8, 8)).shape == (5, 2)


def test_a_size_of_another_dimension_is_left_alone(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        flat = x.flatten(0, 1)  # its first size is no batch
        return (flat * 2).view(x.shape[0], 6, 4)

    program = Program.capture(net(forward), torch.zeros(1, 6, 4))
    (size,) = (node for node in program.calls() if "sym_size" in node.name)
    assert isinstance(size.args[0], fx.Node)
    assert size.args[0].op == "placeholder"
    x = torch.randn(3, 6, 4)
    assert torch.equal(program.run(x), x * 2)


def test_identities_are_dropped() -> None:
    graph = Graph()
    x = graph.placeholder("x")
    alias = graph.call_function(torch.ops.aten.alias.default, (x,))
    fresh = graph.call_function(torch.ops.aten.lift_fresh_copy.default, (alias,))
    detached = graph.call_function(torch.ops.aten.detach.default, (fresh,))
    graph.output(graph.call_function(torch.ops.aten.relu.default, (detached,)))
    module = GraphModule(nn.Module(), graph)
    tidy(module)
    assert [node.target for node in module.graph.nodes] == [
        "x", torch.ops.aten.detach.default, torch.ops.aten.relu.default, "output"]


def test_unused_tensors_and_modules_are_deleted() -> None:
    root = nn.Module()
    root.used, root.gone = nn.Linear(2, 2), nn.BatchNorm1d(2)
    graph = Graph()
    x = graph.placeholder("x")
    weight = graph.get_attr("used.weight")
    graph.output(graph.call_function(torch.ops.aten.linear.default, (x, weight)))
    module = GraphModule(root, graph)
    module.register_buffer("counter", torch.zeros(()))
    module.register_parameter("extra", nn.Parameter(torch.zeros(2)))
    drop_unused_tensors(module)
    assert list(module.state_dict()) == ["used.weight"]


def test_counters_and_dead_branches_are_not_captured(net: type[Net]) -> None:
    model = net(lambda m, x: (m.n(x), m.a(x).sum(), m.n(x))[2], a=nn.Linear(4, 2),
                n=nn.BatchNorm1d(4))
    assert names_of(model, torch.zeros(1, 4)) == ["batch_norm_1"]
