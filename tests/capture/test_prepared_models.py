"""Models that torch or torchao prepared for quantization are refused by name before capture."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.errors import ModelError
from edgewright.program import Program

X = torch.zeros(2, 4)


def network() -> Any:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def by_torch(observing: Any) -> Any:
    quantization = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = network().train()
        model.qconfig = quantization.get_default_qat_qconfig("x86")
        model = quantization.prepare_qat(model)
        model(X)
    if not observing:
        model.apply(quantization.disable_observer)
    return model.eval()


@pytest.mark.parametrize("observing", [True, False])
def test_fake_quantizers_of_torch_are_refused(observing: bool) -> None:
    model = by_torch(observing)
    with pytest.raises(ModelError, match=(
            r"^0\.weight_fake_quant is a FusedMovingAvgObsFakeQuantize, inserted by another "
            r"quantization tool; pass the model from before it was prepared")):
        Program.capture(model, X)


def test_observers_of_torch_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3), torch.ao.quantization.MinMaxObserver())
    with pytest.raises(ModelError, match=r"^1 is a MinMaxObserver, inserted by another quantization tool"):
        Program.capture(model, X)


def test_fake_quantizers_of_torchao_are_refused() -> None:
    pt2e = pytest.importorskip("torchao.quantization.pt2e", reason="needs torchao")
    model = nn.Sequential(nn.Linear(4, 3), pt2e.FusedMovingAvgObsFakeQuantize())
    with pytest.raises(ModelError, match=r"^1 is a FusedMovingAvgObsFakeQuantize, inserted by another"):
        Program.capture(model, X)
