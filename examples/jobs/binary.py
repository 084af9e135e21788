"""One yes-or-no question: is a tumour benign? On scikit-learn's breast cancer data."""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

import edgewright as ew


def make_model() -> nn.Module:
    """30 measurements to one logit."""
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                         nn.Linear(64, 1))


def make_task() -> ew.Task:
    """Accuracy and area under the ROC curve."""
    x, y = _samples()
    return ew.Task((x[:400], y[:400]), test=(x[400:], y[400:]), goal="binary")


def _samples() -> tuple[Tensor, Tensor]:
    """Standardized measurements (569, 30), and 1 for benign (569,)."""
    data = load_breast_cancer()
    x = torch.tensor(data.data, dtype=torch.float32)
    return (x - x.mean(0)) / x.std(0), torch.tensor(data.target)
