"""A vision transformer on the digits of scikit-learn."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import edgewright as ew


class VisionTransformer(nn.Module):
    """Patches of 2 x 2 pixels, an encoder layer, and the mean over the patches."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.positions = nn.Parameter(0.02 * torch.randn(16, width))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, activation="gelu",
                                       batch_first=True, norm_first=True),
            num_layers=1, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, 8, 8) to logits (N, 10)."""
        patches = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.norm(self.encoder(patches)).mean(dim=1))
        return logits


def make_model() -> nn.Module:
    """The vision transformer."""
    return VisionTransformer()


def make_task() -> ew.Task:
    """Classification, the default goal."""
    x, y = _samples()
    return ew.Task((x[:800], y[:800]), test=(x[800:1100], y[800:1100]))


def _samples() -> tuple[Tensor, Tensor]:
    """Images (1797, 1, 8, 8) and digits (1797,)."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
