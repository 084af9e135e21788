"""A small network by day and a large one by night: every image takes one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.graph import ops


class DayAndNight(nn.Module):
    """Bright images take the small branch, dark and noisy ones the large branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, stride=2), nn.ReLU())
        self.day = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU())
        self.night = nn.Sequential(
            nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, stride=2), nn.ReLU(),
            nn.Conv2d(32, 16, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, 16, 16) to logits (N, 3)."""
        is_dark = x.mean(dim=(1, 2, 3)) < 0.3
        features = self.stem(x)
        branches = [self.day(features), self.night(features)]
        logits: Tensor = self.head(ops.ROUTE(is_dark.to(torch.int64), branches))
        return logits


def make_model() -> nn.Module:
    """The network with two branches."""
    return DayAndNight()


def make_task() -> ew.Task:
    """Three classes."""
    x, y = _samples()
    return ew.Task((x[:400], y[:400]), test=(x[400:], y[400:]), classes=("across", "up", "both"))


def _samples() -> tuple[Tensor, Tensor]:
    """Stripes (600, 1, 16, 16) across, up or both; half of them dark."""
    random = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (600,), generator=random)
    dark = torch.rand(600, generator=random) < 0.5
    stripes = (1 + torch.cos(torch.arange(16.0) * 1.5)) / 2
    across, up = stripes.expand(16, 16), stripes.expand(16, 16).T
    patterns = torch.stack([across, up, (across + up) / 2])[classes]
    noise = 0.05 * torch.randn(600, 16, 16, generator=random)
    light = torch.where(dark, 0.2, 1.0)[:, None, None]
    return (patterns * light + noise)[:, None], classes
