"""One number says how far two evaluations are apart."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewright.program._parity import compare_outputs, random_inputs


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=6), st.floats(0.5, 2))
def test_the_error_is_relative_to_the_reference(values, factor):
    want = torch.tensor(values)
    norm = math.sqrt(sum(value * value for value in values))
    expected = abs(factor - 1) * norm / max(norm, 1e-3)
    assert compare_outputs(want, want * factor) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_worst_output_counts_however_nested():
    want = {"a": torch.ones(4), "b": [torch.ones(4), None]}
    have = [torch.ones(4), torch.ones(4) * 1.5]
    assert compare_outputs(want, have) == pytest.approx(0.5)


@pytest.mark.parametrize("have", [torch.ones(3), [torch.ones(4), torch.ones(4)], [],
                                  torch.tensor([1.0, 1.0, 1.0, math.nan])])
def test_what_cannot_be_compared_is_infinitely_far(have):
    assert compare_outputs(torch.ones(4), have) == math.inf


def test_small_outputs_are_compared_absolutely():
    assert compare_outputs(torch.zeros(4), torch.full((4,), 1e-8)) == pytest.approx(2e-5)


def test_random_inputs_are_noise_of_the_same_kind():
    example = ({"a": torch.zeros(2, 3)}, torch.tensor([1, 2]), torch.zeros(2, dtype=torch.float64))
    first, again, other = (random_inputs(example, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0]["a"], again[0]["a"])
    assert not torch.equal(first[0]["a"], other[0]["a"])
    assert (first[0]["a"].shape, first[2].dtype) == ((2, 3), torch.float64)
    assert torch.equal(first[1], example[1])
