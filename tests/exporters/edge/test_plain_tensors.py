"""Names and layouts that a partitioner can take."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgewright.exporters.edge._plain_tensors import store_plainly
from edgewright.graph import settle
from edgewright.program import Program


def test_tensors_are_numbered_and_laid_out_row_by_row() -> None:
    class Named(nn.Module):
        shift: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict({"12": nn.Conv2d(3, 4, 2), "gr\u00f6\u00dfe": nn.Linear(4, 4)})
            self.parts.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.turned = nn.Parameter(torch.randn(2, 4).t())
            self.register_buffer("shift", torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            y = self.parts["12"](x).mean((2, 3))
            again = self.parts["gr\u00f6\u00dfe"]
            return again(again(y)) @ self.turned + self.shift[:2]

    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 4)
    program = Program.capture(Named().eval(), x)
    want = program.run(x)
    plain = program.copy()
    store_plainly(plain.graph_module)
    settle(plain.graph_module)
    assert set(plain.state_dict()) == {f"stored_{index}" for index in range(6)}
    assert all(value.is_contiguous() for value in plain.state_dict().values())
    torch.testing.assert_close(plain.run(x), want)
    assert sorted(name for name, _ in plain.graph_module.named_buffers()) == ["stored_5"]
