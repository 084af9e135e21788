"""The spread of predictions over a split does not depend on how it is divided into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgewright.errors import UsageError
from edgewright.goals import (
    Bernoulli,
    Classification,
    MultiTask,
    Prediction,
    Regression,
    Values,
    kinds_with_scales,
    measure_scales,
)


@given(seed=st.integers(0, 2**31), size=st.integers(1, 40), offset=st.sampled_from([0.0, 1e3]))
def test_the_scale_is_the_standard_deviation_of_all_values(seed: int, size: int,
                                                           offset: float) -> None:
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(seed)) + offset
    found = measure_scales([Prediction("", part, Values())] for part in values.split(size))
    assert found == pytest.approx((float(values.double().std(correction=0)),), rel=1e-6)


def test_nothing_is_read_if_no_kind_needs_a_scale() -> None:
    def batches() -> Iterator[list[Prediction]]:
        yield [Prediction("a", torch.ones(2), Bernoulli()), Prediction("b", torch.ones(2), Values(scale=3))]
        pytest.fail("the second batch is not needed")

    assert measure_scales(batches()) == ()


@pytest.mark.parametrize("size", [1, 7, 64])
def test_agreement_of_values_does_not_depend_on_the_batch_size(size: int) -> None:
    """The samples are sorted, so that the spread of a batch is far from that of the split."""
    first = torch.sort(torch.randn(64, generator=torch.Generator().manual_seed(1))).values[:, None]
    second = first + 0.05 * torch.randn(64, 1, generator=torch.Generator().manual_seed(2))
    goal = MultiTask({"sort": Classification(), "size": Regression()})

    def outputs(values: Tensor) -> list[dict[str, Any]]:
        return [{"sort": torch.eye(len(part), 3), "size": part} for part in values.split(size)]

    scales = measure_scales(goal.predictions(part) for part in outputs(first))
    shares = torch.cat([goal.agree(one, other, scales)[1].shares
                        for one, other in zip(outputs(first), outputs(second), strict=True)])
    expected = ((first - second).abs() <= 0.05 * first.std(correction=0)).float()[:, 0]
    assert 0.3 < float(expected.mean()) < 0.95
    assert torch.equal(shares, expected)


def test_a_stated_scale_wins() -> None:
    found = kinds_with_scales([Prediction("", torch.ones(2), Values(scale=2.0))], (7.0,))
    assert found == (Values(scale=2.0),)
    assert Regression(scale=3.0).kind == Values(0.05, 3.0)
    assert float(Values(scale=2.0).distance(torch.tensor([4.0]), torch.tensor([0.0]))) == 2.0


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_no_size_is_refused(scale: float) -> None:
    with pytest.raises(UsageError, match="scale must be a finite number above 0, got"):
        Regression(scale=scale)


@pytest.mark.parametrize("settings", [{"tolerance": -0.1}, {"scale": -1.0}, {"scale": float("inf")}])
def test_values_refuse_negative_settings(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="negative"):
        Values(**settings)
