"""A value with a unit: the distance of an obstacle from an echo."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import edgewright as ew


def make_model() -> nn.Module:
    """A signal (N, 1, 64) to a distance (N, 1)."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2, stride=2), nn.ReLU(),
        nn.Conv1d(16, 32, 5, padding=2, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 1))


def make_task() -> ew.Task:
    """Mean absolute error and root mean squared error in metres."""
    x, y = _samples()
    return ew.Task((x[:600], y[:600]), test=(x[600:], y[600:]),
                   goal=ew.Regression("smooth_l1", unit="m"))


def _samples() -> tuple[Tensor, Tensor]:
    """Noisy pulses (800, 1, 64), and the distances that delay them, 0.5 to 3 m, (800,)."""
    random = torch.Generator().manual_seed(0)
    metres = 0.5 + 2.5 * torch.rand(800, generator=random)
    times = torch.arange(64) - 20 * metres[:, None]
    pulses = torch.exp(-(times / 2).square()) * torch.cos(times)
    return (pulses + 0.02 * torch.randn(800, 64, generator=random))[:, None], metres
