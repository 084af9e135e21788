"""Shapes are read for any batch size and recomputed after a rewrite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn
from torch.fx import symbolic_trace

from edgewright.graph import refresh_shapes, shape_of
from edgewright.program import Program


@pytest.fixture
def program() -> Any:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    return Program.capture(model, torch.zeros(1, 3, 8, 8))


def test_shapes_are_read_for_any_batch_size(program: Any) -> None:
    named = {node.name: node for node in program.graph.nodes}
    assert shape_of(named["conv2d"]) == (1, 4, 6, 6)
    assert shape_of(named["flatten"], batch=7) == (7, 144)
    assert shape_of(named["_2_weight"], batch=7) == (2, 144)


def test_a_node_without_a_tensor_has_no_shape(net: type[Net]) -> None:
    program = Program.capture(net(lambda m, x: x.chunk(2, 1)[0] + 1), torch.zeros(1, 4))
    chunk = next(iter(program.calls()))
    with pytest.raises(TypeError, match="chunk does not compute a tensor"):
        shape_of(chunk)


def test_shapes_are_recomputed_after_a_rewrite(program: Any) -> None:
    conv = next(node for node in program.calls() if node.name == "conv2d")
    rewritten = program.copy()
    twin = next(node for node in rewritten.calls() if node.name == "conv2d")
    twin.args = (*twin.args, [2, 2])
    rewritten.graph_module.get_submodule("2").weight = nn.Parameter(torch.zeros(2, 36))
    refresh_shapes(rewritten.graph_module)
    named = {node.name: node for node in rewritten.graph.nodes}
    assert shape_of(named["conv2d"], batch=5) == (5, 4, 3, 3)
    assert shape_of(named["flatten"]) == (1, 36)
    assert shape_of(named["linear"], batch=5) == (5, 2)
    assert shape_of(conv) == (1, 4, 6, 6)


def test_a_graph_that_was_not_exported_is_refused() -> None:
    module = symbolic_trace(nn.ReLU())
    for node in module.graph.nodes:
        node.meta["val"] = None
    with pytest.raises(TypeError, match=r"no shapes; capture it with torch\.export"):
        refresh_shapes(module)
