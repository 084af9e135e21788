"""Digits as tones of ten pitches, recorded with noise: from a waveform to a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import edgewright as ew

FEATURES = ew.AudioPreprocessing(sample_rate=8000, length=4000, frame_length=256, hop=128,
                                 fft_size=256, mels=20, fmin=60, mean=-2.8, std=1.4)


def make_model() -> nn.Module:
    """Log-mel features (N, 1, 20, 30) to logits (N, 10): a small DS-CNN (Zhang et al. 2017)."""
    return nn.Sequential(
        nn.Conv2d(1, 24, (7, 5), stride=2, padding=(3, 2), bias=False), nn.BatchNorm2d(24),
        nn.ReLU(), *_separable(24), *_separable(24), nn.AdaptiveAvgPool2d((5, 1)), nn.Flatten(),
        nn.Linear(120, 10))


def make_task() -> ew.Task:
    """Accuracy; the bundle holds how a recording becomes features."""
    x, y = _samples()
    return ew.Task((x[:600], y[:600]), test=(x[600:], y[600:]), preprocessing=FEATURES,
                   classes="0123456789")


def _separable(channels: int) -> list[nn.Module]:
    """A convolution per channel, then one of size 1 across channels."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    pointwise = nn.Conv2d(channels, channels, 1, bias=False)
    return [depthwise, nn.BatchNorm2d(channels), nn.ReLU(),
            pointwise, nn.BatchNorm2d(channels), nn.ReLU()]


def _samples() -> tuple[Tensor, Tensor]:
    """Waveforms (800, 4000) int16 of 0.5 s with a short tone each, and the tones' numbers."""
    random = torch.Generator().manual_seed(0)
    digits = torch.randint(0, 10, (800,), generator=random)
    pitch = 300 * 1.25 ** (digits + 0.4 * torch.rand(800, generator=random))  # hertz
    time = torch.arange(4000) / 8000
    center = 0.15 + 0.2 * torch.rand(800, 1, generator=random)
    loudness = 0.1 + 0.3 * torch.rand(800, 1, generator=random)
    tones = torch.sin(2 * torch.pi * pitch[:, None] * time)
    envelope = torch.exp(-((time - center) / 0.05).square())
    noise = 0.01 * torch.randn(800, 4000, generator=random)
    return (32767 * (loudness * envelope * tones + noise).clamp(-1, 1)).to(torch.int16), digits
