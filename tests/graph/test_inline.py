"""Regions with autocast disabled are inlined into the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn

from edgewright.channels import find_groups
from edgewright.errors import ModelError
from edgewright.program import Program


def test_a_region_without_autocast_is_inlined_saved_and_pruned(net: type[Net],
                                                               tmp_path: Path) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.a(x)
        with torch.autocast(device_type="cpu", enabled=False):
            first, second = y.float().relu(), y.float().sigmoid()
        return m.b(first * second)

    model = net(forward, a=nn.Linear(4, 8), b=nn.Linear(8, 2)).eval()
    program = Program.capture(model, torch.zeros(1, 4))
    assert not any("autocast" in str(node.target) for node in program.calls())
    x = torch.randn(5, 4)
    torch.testing.assert_close(program.run(x), model(x))
    program.save(tmp_path / "p.pt2")
    assert torch.equal(Program.load(tmp_path / "p.pt2").run(x), program.run(x))
    assert [(g.name, len(g.channels)) for g in find_groups(program).groups] == [("a.weight", 8)]


def test_a_region_in_lower_precision_is_refused(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            y = m.a(x)
        return m.b(y.float())

    with pytest.raises(ModelError, match=r"computes in .*remove half\(\) and torch.autocast from"):
        Program.capture(net(forward, a=nn.Linear(4, 8), b=nn.Linear(8, 2)), torch.zeros(1, 4))
