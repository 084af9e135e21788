"""Branches of a route are coupled; the gate's own layers are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tests.programs import Net
from torch import nn

from edgewright.channels import ChannelGroups
from edgewright.graph import ops


def _forward(m: Any, x: Any) -> Any:
    h = m.stem(x).relu()
    index = m.score(m.gate(h).relu()).argmax(1)
    return m.head(ops.ROUTE(index, [m.small(h), m.large(h).relu()]))


def test_masked_equals_sliced_and_the_gate_is_kept(
        net: type[Net], hold: Callable[..., ChannelGroups]) -> None:
    made = net(_forward, stem=nn.Linear(4, 8), gate=nn.Linear(8, 6), score=nn.Linear(6, 2),
               small=nn.Linear(8, 6), large=nn.Linear(8, 6), head=nn.Linear(6, 3))
    found = hold(made, torch.randn(5, 4))
    assert {group.name: len(group.channels) for group in found.groups} == {
        "stem.weight": 8, "small.weight": 6}
    assert found.kept["gate.weight"] == "it decides route"
