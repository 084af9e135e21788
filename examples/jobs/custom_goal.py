"""A goal of one's own: the direction that a sound comes from, as a vector whose length is free."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import edgewright as ew
from edgewright.goals import Direction


class AngularError:
    """Mean angle between predicted and true direction, in degrees: an own metric."""

    higher_is_better = False

    def __init__(self) -> None:
        self.reset()

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch of vectors (N, 2) and unit vectors (N, 2)."""
        cosine = F.cosine_similarity(outputs, targets).clamp(-1, 1)
        self.sum += float(cosine.acos().rad2deg().sum())
        self.count += len(targets)

    def compute(self) -> float:
        """The mean."""
        return self.sum / self.count

    def reset(self) -> None:
        """Forget all batches."""
        self.sum, self.count = 0.0, 0


def cosine_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 minus the cosine, the mean over the samples: an own loss."""
    return 1 - F.cosine_similarity(outputs, targets).mean()


def make_model() -> nn.Module:
    """Three microphones (N, 3, 32) to a vector (N, 2)."""
    return nn.Sequential(
        nn.Conv1d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv1d(16, 32, 5, padding=2, stride=2),
        nn.ReLU(), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 2))


def make_task() -> ew.Task:
    """Any loss and any metric; ``kinds`` says what counts as the same prediction."""
    x, y = _samples()
    goal = ew.CustomGoal(cosine_loss, {"angle": AngularError()}, unit="degrees",
                         kinds={"": Direction()})
    return ew.Task((x[:600], y[:600]), test=(x[600:], y[600:]), goal=goal)


def _samples() -> tuple[Tensor, Tensor]:
    """Delayed pulses (800, 3, 32), and unit vectors towards their source (800, 2)."""
    random = torch.Generator().manual_seed(0)
    angle = 2 * torch.pi * torch.rand(800, 1, generator=random)
    places = torch.tensor([0.0, 2.0, 4.0]) * torch.pi / 3
    delays = 16 + 5 * torch.cos(angle - places)
    pulses = torch.exp(-((torch.arange(32) - delays[:, :, None]) / 2).square())
    noisy = pulses + 0.02 * torch.randn(800, 3, 32, generator=random)
    return noisy, torch.cat([angle.cos(), angle.sin()], dim=1)
