"""The branches of a route share a grid; scores that decide it stay in floating point."""

from __future__ import annotations

from typing import Any

import torch
from tests.programs import Net
from torch import Tensor, nn

from edgewright.graph import argument, ops
from edgewright.program import Program
from edgewright.quantization import Quantization, place, resolve


def _forward(m: Any, x: Tensor) -> Any:
    h = m.stem(x).relu()
    index = m.score(m.gate(h).relu()).argmax(1)
    return m.head(ops.ROUTE(index, [m.small(h), m.large(h).relu()]))


def test_branches_share_a_grid_and_the_scores_have_none() -> None:
    net = Net(_forward, stem=nn.Linear(4, 8), gate=nn.Linear(8, 6), score=nn.Linear(6, 2),
              small=nn.Linear(8, 6), large=nn.Linear(8, 6), head=nn.Linear(6, 3))
    program = Program.capture(net, torch.randn(2, 4))
    layers = {str(argument(node, "weight").target): node for node in program.calls()
              if node.target is ops.LINEAR}
    route = next(node for node in program.calls() if node.target is ops.ROUTE)
    placement = place(program, resolve(Quantization()))
    grids = {use.value: point.name for point in placement.activations for use in point.uses}
    small, large = (layers["small.weight"].name, next(iter(layers["large.weight"].users)).name)
    assert grids[small] == grids[large] == grids[route.name]
    assert layers["score.weight"].name not in grids
    assert next(iter(layers["gate.weight"].users)).name in grids
    assert {point.tensor for point in placement.weights} == set(layers)
