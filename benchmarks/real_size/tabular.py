"""Tables: scikit-learn's diabetes data, with a category and numbers, and its breast cancer data.

Diabetes (442 people, Efron et al. 2004): the progression of the disease within a year, 25 to 346,
from the sex, which is an integer and embedded, and nine numbers. Breast cancer (569 tumours): which
are benign, from 30 numbers. Both are small: a quarter of the samples is the test split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, RidgeCV
from torch import Tensor, nn

import edgewright as ew
from benchmarks.real_size.job import Job

_SEX: Final = 1  # the column of the category


class Diabetes(nn.Module):
    """A vector per sex, joined with the numbers, and linear layers."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.sex = nn.Embedding(2, 4)
        self.layers = nn.Sequential(nn.Linear(4 + 9, width), nn.ReLU(), nn.Linear(width, width),
                                    nn.ReLU(), nn.Linear(width, 1))
        self.register_buffer("mean", torch.tensor(152.0))  # of the progression
        self.register_buffer("std", torch.tensor(77.0))

    def forward(self, sex: Tensor, numbers: Tensor) -> Tensor:
        """Map sexes (N,) int64 and numbers (N, 9) to a progression (N, 1)."""
        standard: Tensor = self.layers(torch.cat([self.sex(sex), numbers], dim=1))
        return standard * self.get_buffer("std") + self.get_buffer("mean")


def make_diabetes_task(data: Path) -> ew.Task:
    """Two inputs, one of integers; mean absolute error."""
    del data
    found = load_diabetes(scaled=False)
    sex = torch.tensor(found.data[:, _SEX] - 1).long()
    numbers = np.delete(found.data, _SEX, axis=1)
    train, test = _rows(len(sex))
    x = _standardize(numbers, train)
    y = torch.tensor(found.target, dtype=torch.float32)
    return ew.Task(((sex[train], x[train]), y[train]), test=((sex[test], x[test]), y[test]),
                   goal=ew.Regression("smooth_l1"), name="diabetes")


def compare_diabetes(data: Path, task: ew.Task) -> dict[str, float]:
    """Ridge regression, and the mean of the training split."""
    del data
    (train, y), (test, wanted) = (
        (torch.cat([batch.inputs[0][:, None], batch.inputs[1]], dim=1).numpy(),
         batch.targets.flatten().numpy())
        for batch in (next(split.batches(len(split))) for split in (task.train, task.test)))
    ridge = RidgeCV(np.logspace(-2, 3, 20)).fit(train, y).predict(test)
    return {"ridge regression": float(np.abs(ridge - wanted).mean()),
            "mean of the training split": float(np.abs(y.mean() - wanted).mean())}


def make_tumour_model() -> nn.Module:
    """30 measurements to one logit."""
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                         nn.Linear(64, 1))


def make_tumour_task(data: Path) -> ew.Task:
    """1 is benign; accuracy and the area under the ROC curve."""
    del data
    found = load_breast_cancer()
    train, test = _rows(len(found.target))
    x, y = _standardize(found.data, train), torch.tensor(found.target)
    return ew.Task((x[train], y[train]), test=(x[test], y[test]), goal="binary",
                   name="breast-cancer")


def compare_tumours(data: Path, task: ew.Task) -> dict[str, float]:
    """Logistic regression."""
    del data
    train, test = (next(split.batches(len(split))) for split in (task.train, task.test))
    model = LogisticRegression(max_iter=1000).fit(train.inputs[0].numpy(), train.targets.numpy())
    return {"logistic regression": float(model.score(test.inputs[0].numpy(),
                                                     test.targets.numpy()))}


def _rows(count: int) -> tuple[Tensor, Tensor]:
    """Three quarters of the rows, and the rest."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[:3 * count // 4], order[3 * count // 4:]


def _standardize(values: np.ndarray, train: Tensor) -> Tensor:
    x = torch.tensor(values, dtype=torch.float32)
    return (x - x[train].mean(dim=0)) / x[train].std(dim=0)


_TRAINING: Final = ew.Training(epochs=60, batch_size=32, lr=0.002, optimizer="adamw",
                               weight_decay=0.1, augment=False)
DIABETES: Final = Job(Diabetes, make_diabetes_task, _TRAINING, simple_figures=compare_diabetes)
TUMOURS: Final = Job(make_tumour_model, make_tumour_task, _TRAINING,
                     simple_figures=compare_tumours)
