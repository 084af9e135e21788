from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from edgewright.distill._soft_labels import SoftLabels
from edgewright.errors import ModelError


@pytest.mark.parametrize("shape", [(2,), (32,), (5, 10)])
def test_few_classes_are_stored_completely(shape: tuple[int, ...]) -> None:
    labels, logits = SoftLabels(shape), 5 * torch.randn(7, *shape)
    found = labels.unpack(labels.pack(logits))
    assert torch.equal(found, logits.half().float())
    assert labels.bytes == 2 * math.prod(shape)


@pytest.mark.parametrize("shape", [(33,), (3, 100), (70_000,)])
def test_for_many_classes_the_largest_and_the_rests_probability_are_stored(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    labels, logits = SoftLabels(shape), 4 * torch.randn(6, *shape)
    found = labels.unpack(labels.pack(logits))
    largest = logits.topk(16, dim=-1).indices
    assert found.shape == logits.shape
    assert torch.equal(found.gather(-1, largest), logits.gather(-1, largest).half().float())
    exact, kept = logits.softmax(-1), found.softmax(-1)
    torch.testing.assert_close(kept.gather(-1, largest), exact.gather(-1, largest), rtol=2e-2,
                               atol=1e-4)
    others = kept.scatter(-1, largest, 0.0)
    assert torch.equal(others.amax(-1), others.masked_fill(others == 0, 2).amin(-1))


def test_the_bytes_are_as_stated() -> None:
    assert SoftLabels((10,)).bytes == 20
    assert SoftLabels((1000,)).bytes == 16 * (2 + 2) + 2
    assert SoftLabels((100_000,)).bytes == 16 * (2 + 4) + 2
    assert SoftLabels((8, 1000)).bytes == 8 * 66


@pytest.mark.parametrize("value", [math.nan, math.inf, 7e4])
@pytest.mark.parametrize("classes", [10, 40])
def test_values_outside_float16_raise(value: Any, classes: int) -> None:
    logits = torch.zeros(3, classes)
    logits[1, 4] = value
    with pytest.raises(ModelError, match="hold NaN, or a value beyond the 65504 that a cache"):
        SoftLabels((classes,)).pack(logits)
