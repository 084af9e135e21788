"""Several tags per image: which of four marks are drawn in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import edgewright as ew


def make_model() -> nn.Module:
    """Images (N, 1, 16, 16) to one logit per tag, (N, 4)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, 4))


def make_task() -> ew.Task:
    """F1 score and accuracy over all answers."""
    x, y = _samples()
    return ew.Task((x[:400], y[:400]), test=(x[400:], y[400:]), goal="multi-label")


def _samples() -> tuple[Tensor, Tensor]:
    """Noisy images with up to four strokes of length 5, and which ones, (600, 4) integers."""
    random = torch.Generator().manual_seed(0)
    tags = torch.randint(0, 2, (600, 4), generator=random)
    images = 0.1 * torch.randn(600, 1, 16, 16, generator=random)
    steps = torch.arange(5)
    strokes = ((steps, 0 * steps), (0 * steps, steps), (steps, steps), (steps, 4 - steps))
    for image, answers in zip(images, tags, strict=True):
        for (down, right), answer in zip(strokes, answers, strict=True):
            top, left = torch.randint(0, 11, (2,), generator=random)
            image[0, top + down, left + right] += answer
    return images, tags
