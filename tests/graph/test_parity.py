"""Output errors between two evaluations, and the tolerance for them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgewright.capture import export_graph, extract_graph
from edgewright.graph import compare_outputs, draw_random_inputs, output_errors, tolerance_of


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=6), st.floats(0.5, 2))
def test_the_error_is_relative_to_the_reference(values: Any, factor: Any) -> None:
    want = torch.tensor(values)
    norm = math.sqrt(sum(value * value for value in values))
    expected = abs(factor - 1) * norm / max(norm, 1e-3)
    assert compare_outputs(want, want * factor) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_largest_error_of_nested_outputs_is_returned() -> None:
    want = {"a": torch.ones(4), "b": [torch.ones(4), None]}
    have = [torch.ones(4), torch.ones(4) * 1.5]
    assert compare_outputs(want, have) == pytest.approx(0.5)


@pytest.mark.parametrize("have", [torch.ones(3), [torch.ones(4), torch.ones(4)], [],
                                  torch.tensor([1.0, 1.0, 1.0, math.nan])])
def test_outputs_that_cannot_be_compared_have_infinite_error(have: Any) -> None:
    assert compare_outputs(torch.ones(4), have) == math.inf


def test_nan_and_infinity_must_be_at_the_same_positions() -> None:
    want = torch.tensor([3.0, math.nan, math.inf, -math.inf])
    near = torch.tensor([3.3, math.nan, math.inf, -math.inf])
    assert output_errors(want, near) == pytest.approx((0.1,), rel=1e-5)
    others = [torch.tensor([3.0, math.nan, math.inf, math.inf]),
              torch.tensor([3.0, 0.0, math.inf, -math.inf]),
              torch.tensor([math.nan, math.nan, math.inf, -math.inf])]
    assert all(compare_outputs(want, other) == math.inf for other in others)
    nothing = torch.full((4,), math.nan)
    assert compare_outputs(nothing, nothing) == math.inf


def test_integer_error_is_the_fraction_of_differing_elements() -> None:
    assert output_errors([torch.arange(8), torch.tensor([True, False])],
                         [torch.arange(8).clamp(max=5), torch.tensor([True, True])]) == (0.25, 0.5)
    large = torch.tensor([2**53, 1])
    assert output_errors(large, large + torch.tensor([1, 0])) == (0.5,)
    assert output_errors(torch.zeros(2, 0), torch.zeros(2, 0)) == (0.0,)


@pytest.mark.parametrize(("kind", "limit"), [
    (torch.float64, 1e-4), (torch.float32, 1e-4), (torch.float16, 10 * 2.0**-10),
    (torch.bfloat16, 10 * 2.0**-7)])
def test_the_tolerance_is_that_of_the_least_precise_type(kind: Any, limit: float) -> None:
    class Narrow(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.to(kind).relu().float()

    graph = extract_graph(export_graph(Narrow(), (torch.zeros(2, 2),)))
    assert tolerance_of(graph) == pytest.approx(limit)


def test_small_outputs_are_compared_absolutely() -> None:
    assert compare_outputs(torch.zeros(4), torch.full((4,), 1e-8)) == pytest.approx(2e-5)


def test_random_inputs_have_the_shapes_and_dtypes_of_the_example() -> None:
    example = ({"a": torch.zeros(2, 3)}, torch.tensor([1, 2]), torch.zeros(2, dtype=torch.float64))
    first, again, other = (draw_random_inputs(example, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0]["a"], again[0]["a"])
    assert not torch.equal(first[0]["a"], other[0]["a"])
    assert (first[0]["a"].shape, first[2].dtype) == ((2, 3), torch.float64)
    assert torch.equal(first[1], example[1])
