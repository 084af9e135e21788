from __future__ import annotations

import torch

from edgewright.quantization import MinMax
from edgewright.quantization.calibration import make_observer
from edgewright.quantization.scheme import Grid


def found(grid: Grid, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    observer = make_observer(MinMax(), grid)
    for x in tensors:
        observer.update(x)
    return observer.range()


def test_of_all_that_was_seen() -> None:
    grid = Grid(8, signed=False, symmetric=False, role="activation")
    low, high = found(grid, torch.tensor([1.0, 2.0]), torch.tensor([-4.0]), torch.tensor([0.5]))
    assert (low.item(), high.item()) == (-4, 2)


def test_of_each_channel_and_of_each_group() -> None:
    x = torch.tensor([[1.0, 2.0, -3.0, 5.0], [-1.0, -2.0, -3.0, -4.0]])
    low, high = found(Grid(8, True, True, axis=0, role="weight"), x)
    assert low.tolist() == [-3, -4]
    assert high.tolist() == [5, 0]
    low, high = found(Grid(8, True, True, axis=1, role="weight"), x)
    assert low.tolist() == [-1, -2, -3, -4]
    assert high.tolist() == [1, 2, 0, 5]
    low, high = found(Grid(8, True, True, axis=0, group=2, role="weight"), x)
    assert low.tolist() == [[0, -3], [-2, -4]]
    assert high.tolist() == [[2, 5], [0, 0]]
