"""Whoever quantizes hears of every real share that stays in floating point."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.program import Program
from edgewright.quantization import Quantization, float_share, quantize

ALONE = Quantization(activations=None)


@pytest.fixture(scope="module")
def program() -> Any:
    torch.manual_seed(0)
    return Program.capture(nn.Sequential(nn.Embedding(100, 16), nn.Linear(16, 64), nn.ReLU(),
                                         nn.Linear(64, 3)), torch.zeros(2, 5).long())


def test_names_bytes_and_the_reason_are_told(program: Any) -> None:
    config = ALONE.model_copy(update={"layers": {"0": None}})
    with pytest.warns(UserWarning, match="after quantizing") as caught:
        result = quantize(program, None, config)
    (warning,) = caught
    assert str(warning.message).startswith("after quantizing, 6.67 kB of the ")
    assert "stay in floating point: 0 (6.4 kB: excluded by the `layers` pattern '0')" in str(warning.message)
    share = float_share(result, {"0.weight": "why not"})
    assert dict(share.tensors) == {"0.weight": 6400, "1.bias": 256, "3.bias": 12}
    assert share.reasons["0.weight"] == "why not"
    assert share.reasons["1.bias"].startswith("a bias")
    assert share.is_real


def test_nothing_is_said_where_hardly_anything_stays(program: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = quantize(program, None, ALONE)
    share = float_share(result, {})
    assert share.size_bytes == 268
    assert not share.is_real


def test_a_target_that_stores_floats_says_so(program: Any) -> None:
    with pytest.warns(UserWarning, match=r"0 \(6.4 kB: XNNPACK reads integer weights in kernels"):
        quantize(program, None, Quantization(activations="dynamic", target="executorch"))
