"""Two answers from one image: an age in years, and one of two sexes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import edgewright as ew


class TwoHeads(nn.Module):
    """A trunk and a head per answer."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, stride=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(512, 64), nn.ReLU())
        self.age = nn.Linear(64, 1)
        self.sex = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (N, 1, 16, 16) to ages (N, 1) and logits (N, 2)."""
        features = self.trunk(x)
        return {"age": self.age(features), "sex": self.sex(features)}


def make_model() -> nn.Module:
    """The network with two heads."""
    return TwoHeads()


def make_task() -> ew.Task:
    """One goal per output; the first one's metric is the primary one."""
    x, y = _samples()
    goal = ew.MultiTask({"age": ew.Regression("l1", unit="years"), "sex": ew.Classification()},
                        weights={"age": 0.05})
    return ew.Task((x[:400], {name: values[:400] for name, values in y.items()}),
                   test=(x[400:], {name: values[400:] for name, values in y.items()}), goal=goal)


def _samples() -> tuple[Tensor, dict[str, Tensor]]:
    """Stripes (600, 1, 16, 16), whose contrast is the age and whose direction the sex."""
    random = torch.Generator().manual_seed(0)
    age = 18 + 60 * torch.rand(600, generator=random)
    sex = torch.randint(0, 2, (600,), generator=random)
    stripes = torch.cos(torch.arange(16.0)).expand(600, 16, 16)
    turned = torch.where(sex[:, None, None] == 1, stripes.mT, stripes)
    noise = 0.05 * torch.randn(600, 16, 16, generator=random)
    return (turned * age[:, None, None] / 80 + noise)[:, None], {"age": age, "sex": sex}
