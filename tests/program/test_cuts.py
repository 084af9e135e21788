"""Cuts of small networks, and segments that compose to the whole program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn

from edgewright.errors import ModelError
from edgewright.graph import refresh_shapes
from edgewright.program import (
    Program,
    find_cuts,
    fold_batch_norm,
    outputs_of,
    set_outputs,
    split_at_exits,
)
from edgewright.quantization import Quantization, quantize
from edgewright.task import Task

IMAGE = torch.zeros(1, 3, 8, 8)


def conv(inputs: Any, outputs: Any) -> Any:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def cuts_of(model: nn.Module, *inputs: Any) -> Any:
    return [node.name for node in find_cuts(Program.capture(model, inputs or (IMAGE,)))]


def add_exit(program: Program, name: str, head: Any) -> Any:
    """The program with another output: ``head`` makes it from the graph and the named node."""
    program = program.copy()
    graph = program.graph
    by_name = {node.name: node for node in graph.nodes}
    *early, final = outputs_of(program)
    with graph.inserting_before(next(node for node in graph.nodes if node.op == "output")):
        logits = head(graph, by_name, by_name[name])
    set_outputs(program.graph_module, (*early, logits, final))
    program.graph_module.recompile()
    refresh_shapes(program.graph_module)
    program.exits += 1
    return program


def mean(graph: Any, by_name: Any, source: Any) -> Any:
    return graph.call_function(torch.ops.aten.mean.dim, (source, [2, 3]))


@pytest.fixture
def chain() -> Any:
    return Program.capture(nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 6), nn.ReLU(),
                                         nn.Flatten(), nn.Linear(384, 5)), IMAGE)


@pytest.fixture
def two_exits(chain: Any) -> Any:
    return add_exit(add_exit(chain, "relu", mean), "relu_1", mean)


def test_every_call_of_a_chain_but_the_last_is_a_cut(chain: Any) -> None:
    assert [node.name for node in find_cuts(chain)] == [
        "conv2d", "relu", "conv2d_1", "relu_1", "flatten"]


def test_there_is_no_cut_inside_a_residual_block(net: type[Net]) -> None:
    model = net(lambda m, x: m.c(m.a(x) + m.b(m.a(x).relu())), a=conv(3, 4), b=conv(4, 4),
                c=conv(4, 2))
    assert cuts_of(model) == ["add"]
    shortcut = net(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 4), b=conv(3, 4), c=conv(4, 2))
    assert cuts_of(shortcut) == ["add"]


def test_resnet20_can_be_cut_between_its_blocks(resnet20_program: Program) -> None:
    names = [node.name for node in find_cuts(resnet20_program)]
    assert names[:3] == ["conv2d", "batch_norm", "relu"]
    assert [name for name in names if name.startswith("add")] == [
        "add", *(f"add_{index}" for index in range(1, 9))]
    blocks = {"relu", *(f"relu_{2 * index}" for index in range(1, 10))}
    assert {name for name in names if name.startswith("relu")} == blocks
    assert names[-2:] == ["adaptive_avg_pool2d", "flatten"]


def test_an_input_that_is_read_late_prevents_earlier_cuts(net: type[Net]) -> None:
    assert cuts_of(net(lambda m, x: m.b(m.a(x).relu()) + x, a=conv(3, 4), b=conv(4, 3))) == []


def test_there_is_no_cut_before_two_inputs_are_joined(net: type[Net]) -> None:
    model = net(lambda m, x, y: (m.a(x) + m.b(y)).relu() * 2, a=nn.Linear(4, 3), b=nn.Linear(4, 3))
    assert cuts_of(model, torch.zeros(1, 4), torch.zeros(1, 4)) == ["add", "relu"]


def test_tensors_computed_from_weights_do_not_prevent_cuts(net: type[Net]) -> None:
    model = net(lambda m, x: (m.a(x) * m.w.exp()).relu() + m.w, a=nn.Linear(4, 4),
                w=nn.Parameter(torch.ones(4)))
    assert cuts_of(model, torch.zeros(1, 4)) == ["linear", "mul", "relu"]


def test_a_batch_size_does_not_prevent_cuts(net: type[Net]) -> None:
    model = net(lambda m, x: m.b(m.a(x).relu().view(x.shape[0], -1)), a=conv(3, 4),
                b=nn.Linear(256, 2))
    assert cuts_of(model) == ["conv2d", "relu", "view"]


def test_outputs_are_not_cuts(net: type[Net]) -> None:
    model = net(lambda m, x: (m.a(x), m.b(m.a(x))), a=conv(3, 4), b=conv(4, 3))
    assert cuts_of(model) == []


def test_outputs_of_a_nested_result(net: type[Net]) -> None:
    model = net(lambda m, x: {"b": x + 1, "a": [x * 2, (x - 3,)]})
    program = Program.capture(model, torch.zeros(1, 4))
    assert sorted(node.name for node in outputs_of(program)) == ["add", "mul", "sub"]


def run_segments(segments: Any, *inputs: Any) -> tuple[Any, ...]:
    """What a runtime that never leaves early returns."""
    logits = []
    for segment in segments[:-1]:
        output, features = segment.run(*inputs)
        logits.append(output)
        inputs = (features,)
    return (*logits, segments[-1].run(*inputs))


@pytest.mark.parametrize("batch", [1, 7])
def test_segments_compose_to_the_whole(batch: int, two_exits: Any) -> None:
    segments = split_at_exits(two_exits)
    assert len(segments) == 3
    x = torch.randn(batch, 3, 8, 8)
    torch.testing.assert_close(run_segments(segments, x), tuple(two_exits.run(x)))


def test_segments_split_the_costs_and_the_tensors(two_exits: Any) -> None:
    segments = split_at_exits(two_exits)
    assert [sorted(segment.state_dict()) for segment in segments] == [
        ["0.bias", "0.weight"], ["2.bias", "2.weight"], ["5.bias", "5.weight"]]
    costs = two_exits.costs()
    assert sum(segment.costs().macs for segment in segments) == costs.macs
    assert sum(segment.costs().parameters for segment in segments) == costs.parameters
    assert [segment.exits for segment in segments] == [0, 0, 0]


def test_segments_are_saved_and_loaded(two_exits: Any, tmp_path: Path) -> None:
    segments = split_at_exits(two_exits)
    loaded = []
    for index, segment in enumerate(segments):
        segment.save(tmp_path / f"{index}.pt2")
        loaded.append(Program.load(tmp_path / f"{index}.pt2"))
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(run_segments(loaded, x), run_segments(segments, x))


def test_the_inputs_keep_their_structure(net: type[Net]) -> None:
    model = net(lambda m, d: m.b((m.a(d["x"]) + d["y"][0]).relu()), a=nn.Linear(4, 3),
                b=nn.Linear(3, 2))
    inputs = {"x": torch.randn(5, 4), "y": [torch.randn(5, 3)]}
    program = add_exit(Program.capture(model, (inputs,)), "relu",
                       lambda graph, _, source: graph.call_function(torch.ops.aten.sum.dim_IntList,
                                                                    (source, [1])))
    torch.testing.assert_close(run_segments(split_at_exits(program), inputs),
                               tuple(program.run(inputs)))


def test_resnet20_with_exits_composes(resnet20_program: Program) -> None:
    program = add_exit(fold_batch_norm(resnet20_program), "relu_6", mean)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(run_segments(split_at_exits(program), x), tuple(program.run(x)))


def test_quantized_segments_pass_integers(two_exits: Any) -> None:
    images = torch.randn(64, 3, 8, 8)
    labels = torch.arange(64) % 4
    program = quantize(two_exits, Task((images, labels), test=(images, labels)), Quantization())
    parts = split_at_exits(program)
    assert [part.example_inputs[0].dtype for part in parts[1:]] == [torch.uint8, torch.uint8]
    for mine, whole in zip(run_segments(parts, images), program.run(images), strict=True):
        assert torch.equal(mine, whole)


def test_without_exits_there_is_one_segment(chain: Any) -> None:
    assert split_at_exits(chain) == (chain,)


def test_an_exit_that_reads_several_tensors_is_refused(chain: Any) -> Any:
    def head(graph: Any, by_name: Any, source: Any) -> Any:
        pooled = mean(graph, by_name, source)
        return graph.call_function(torch.ops.aten.cat.default,
                                   ([pooled, mean(graph, by_name, by_name["relu_1"])], 1))

    with pytest.raises(ModelError, match=r"the exit cat_default reads several tensors \(relu, relu_1\); "
                                         "an exit must be attached at a cut"):
        split_at_exits(add_exit(chain, "relu", head))


def test_an_exit_beside_another_live_tensor_is_refused(net: type[Net]) -> None:
    model = net(lambda m, x: m.b(m.a(x).relu()) + x, a=conv(3, 4), b=conv(4, 3))
    program = add_exit(Program.capture(model, IMAGE), "relu", mean)
    with pytest.raises(ModelError, match="inputs_0 is still read after exit 1; an exit must be attached"):
        split_at_exits(program)


def test_programs_that_write_into_parts_of_a_tensor_are_not_split(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.a(x)
        y[:, :2] = 0.5
        return m.b(y.relu())

    program = Program.capture(net(forward, a=conv(3, 4), b=conv(4, 2)), IMAGE)
    assert find_cuts(program) == ()
    with pytest.raises(ModelError, match=r"writes into parts of a tensor \(fill_\) and cannot be"):
        split_at_exits(add_exit(program, "relu", mean))


def test_set_outputs_returns_a_flat_tuple(chain: Any) -> None:
    program = chain.copy()
    named = {node.name: node for node in program.graph.nodes}
    set_outputs(program.graph_module, (named["linear"], named["relu"]))
    program.graph_module.recompile()
    x = torch.randn(2, 3, 8, 8)
    logits, features = program.run(x)
    assert torch.equal(logits, chain.run(x))
    assert features.shape == (2, 4, 8, 8)
