"""Retrieval: vectors of digits, close to each other if the digit is the same."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import edgewright as ew


def make_model() -> nn.Module:
    """Images (N, 1, 8, 8) to vectors (N, 32)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 32))


def make_task() -> ew.Task:
    """Recall at 1: the class of the nearest other sample."""
    x, y = _samples()
    return ew.Task((x[:800], y[:800]), test=(x[800:1200], y[800:1200]), goal="embedding")


def _samples() -> tuple[Tensor, Tensor]:
    """Images (1797, 1, 8, 8) and digits (1797,)."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
