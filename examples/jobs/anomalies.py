"""Anomalies in the sound of a machine: an autoencoder of the shape of MLPerf Tiny's (640 to 8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import edgewright as ew


def make_model() -> nn.Module:
    """Five frames of 128 mel bands, (N, 640), to their reconstruction."""
    return nn.Sequential(*_layer(640, 128), *_layer(128, 8), *_layer(8, 128),
                         nn.Linear(128, 640))


def make_task() -> ew.Task:
    """Area under the ROC curve of the error; only val and test need anomalies."""
    x, y = _samples()
    return ew.Task((x[:400], y[:400]), (x[400:600], y[400:600]), (x[600:], y[600:]),
                   goal=ew.Reconstruction(anomalies=True))


def _layer(size_in: int, size: int) -> list[nn.Module]:
    return [nn.Linear(size_in, size), nn.BatchNorm1d(size), nn.ReLU()]


def _samples() -> tuple[Tensor, Tensor]:
    """Spectra (1000, 640) of three harmonics, and 1 for those with another tone, all after 400."""
    random = torch.Generator().manual_seed(0)
    loudness = torch.rand(1000, 3, generator=random)
    bands = torch.arange(128)
    tones = torch.exp(-((bands - torch.tensor([[20], [40], [80]])) / 6.0).square())
    other = torch.exp(-((bands - torch.randint(0, 128, (200, 1), generator=random)) / 2.0).square())
    spectra = loudness @ tones + 0.1 * torch.randn(1000, 128, generator=random)
    spectra[800:] += other
    order = torch.cat([torch.arange(400), 400 + torch.randperm(600, generator=random)])
    return spectra[order].repeat(1, 5), (order >= 800).long()
