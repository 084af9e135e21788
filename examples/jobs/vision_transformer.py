"""A vision transformer of Hugging Face, built from a configuration, on scikit-learn's digits."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

import edgewright as ew


def make_model() -> nn.Module:
    """Images (N, 1, 8, 8) in patches of 2 x 2 pixels, to an output with logits (N, 10)."""
    config = ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=10, hidden_size=32,
                       num_hidden_layers=1, num_attention_heads=4, intermediate_size=128)
    model: nn.Module = ViTForImageClassification(config)
    return model


def make_task() -> ew.Task:
    """Classification by one field of the output."""
    x, y = _samples()
    return ew.Task((x[:800], y[:800]), test=(x[800:1100], y[800:1100]),
                   goal=ew.Classification(output="logits"))


def _samples() -> tuple[Tensor, Tensor]:
    """Images (1797, 1, 8, 8) and digits (1797,)."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
