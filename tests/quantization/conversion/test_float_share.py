"""Quantization warns about a significant share of bytes that stays in floating point."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.program import Program
from edgewright.quantization import Quantization, measure_float_share, quantize

ALONE = Quantization(activations=None)


@pytest.fixture(scope="module")
def program() -> Any:
    torch.manual_seed(0)
    return Program.capture(nn.Sequential(nn.Embedding(100, 16), nn.Linear(16, 64), nn.ReLU(),
                                         nn.Linear(64, 3)), torch.zeros(2, 5).long())


def test_warning_reports_names_bytes_and_reasons(program: Any) -> None:
    config = ALONE.model_copy(update={"layers": {"0": None}})
    with pytest.warns(UserWarning, match="after quantizing") as caught:
        result = quantize(program, None, config)
    (warning,) = caught
    assert str(warning.message).startswith("after quantizing, 6.67 kB of the ")
    assert "stay in floating point: 0 (6.4 kB: excluded by the `layers` pattern '0')" in str(warning.message)
    share = measure_float_share(result, {"0.weight": "why not"})
    assert dict(share.tensors) == {"0.weight": 6400, "1.bias": 256, "3.bias": 12}
    assert share.reasons["0.weight"] == "why not"
    assert share.reasons["1.bias"].startswith("a bias")
    assert share.is_significant


def test_no_warning_for_a_small_float_share(program: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = quantize(program, None, ALONE)
    share = measure_float_share(result, {})
    assert share.size_bytes == 268
    assert not share.is_significant


def test_targets_without_stored_integer_weights_report_the_reason(program: Any) -> None:
    with pytest.warns(UserWarning, match=r"0 \(6.4 kB: XNNPACK reads integer weights only in"):
        quantize(program, None, Quantization(activations="dynamic", target="executorch"))
