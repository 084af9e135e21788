"""Regions without automatic precision are part of the graph like everything else."""

import pytest
import torch
from torch import nn

from edgewright.channels._channels import find_groups
from edgewright.errors import ModelError
from edgewright.program import Program


def test_a_region_without_automatic_precision_is_inlined_saved_and_pruned(net, tmp_path):
    def forward(m, x):
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


def test_a_region_in_lower_precision_is_refused(net):
    def forward(m, x):
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            y = m.a(x)
        return m.b(y.float())

    with pytest.raises(ModelError, match=r"computes in .*take half\(\) and torch.autocast out"):
        Program.capture(net(forward, a=nn.Linear(4, 8), b=nn.Linear(8, 2)), torch.zeros(1, 4))
