"""Adaptive max pooling in operators that converters know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.exporters.edge._plain_max_pools import write_max_pools
from edgewright.graph import finalize_graph
from edgewright.program import Program


@pytest.mark.parametrize(("pool", "shape", "is_one"), [
    (nn.AdaptiveMaxPool2d(1), (3, 8, 6), True), (nn.AdaptiveMaxPool2d((4, 2)), (3, 8, 6), True),
    (nn.AdaptiveMaxPool2d((3, 4)), (3, 8, 6), False), (nn.AdaptiveMaxPool2d((1, 4)), (3, 5, 6), False),
    (nn.AdaptiveMaxPool1d(3), (4, 8), False), (nn.AdaptiveMaxPool1d(2), (4, 8), False),
    (nn.AdaptiveMaxPool3d((2, 1, 3)), (2, 4, 5, 5), False)], ids=str)
def test_the_values_are_the_same(pool: Any, shape: tuple[int, ...], is_one: bool) -> None:
    x = torch.randn(3, *shape)
    program = Program.capture(pool, x)
    written = program.copy()
    write_max_pools(written.graph_module)
    finalize_graph(written.graph_module)
    names = [str(node.target) for node in written.calls()]
    assert not any("adaptive" in name for name in names)
    assert (names == ["aten.max_pool2d.default"]) == is_one
    assert torch.equal(written.run(x), program.run(x))


def test_a_pool_whose_indices_are_read_is_left_alone() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return nn.functional.adaptive_max_pool2d(x, 2, return_indices=True)

    program = Program.capture(Both(), torch.randn(2, 3, 4, 4))
    write_max_pools(program.graph_module)
    assert any("adaptive" in str(node.target) for node in program.calls())
