"""Targets of a wrong type, shape, range or value are refused with the sample's name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgewright.errors import DataError
from edgewright.goals import GOALS, Goal, Origin, Reconstruction
from edgewright.goals._targets import (
    as_answers,
    as_indices,
    as_values,
    check_indices,
    check_target_shape,
)

ROWS = Origin("train", torch.tensor([5, 9, 2, 7]))
NAN = float("nan")


def refused(function: Any, *arguments: Any) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_indices_become_int64(dtype: torch.dtype) -> None:
    found = as_indices(torch.tensor([0, 3, 1, 2], dtype=dtype), ROWS, 1, "classes")
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 3, 1, 2]


@pytest.mark.parametrize(("targets", "message"), [
    (None, "the train split has no targets; expected classes"),
    ([1, 2], "the targets of the train split are a list; expected one tensor, classes"),
    ({"a": 1, "b": 2}, "the targets of the train split are a dict of a, b; expected one tensor, "
                       "classes"),
    (torch.zeros(4), "the targets of the train split are float32; expected integers, classes "
                     "(argmax(1) of one-hot rows, long() of whole numbers)"),
    (torch.zeros(4, dtype=torch.bool), "the targets of the train split are bool; expected "
                                       "integers, classes (argmax(1) of one-hot rows, long() of "
                                       "whole numbers)"),
    (torch.zeros(4, 2, dtype=torch.long), "the targets of the train split have shape (4, 2); "
                                          "expected classes, shape (N,)"),
])
def test_what_is_no_index_is_refused(targets: Any, message: str) -> None:
    assert refused(as_indices, targets, ROWS, 1, "classes") == message


@pytest.mark.parametrize(("dims", "shape"), [(3, "(N, height, width)"), (2, "(N, length)"),
                                             (4, "with 4 axes")])
def test_the_expected_rank_is_named(dims: int, shape: str) -> None:
    assert refused(as_indices, torch.zeros(4).long(), ROWS, dims, "classes").endswith(shape)


@pytest.mark.parametrize(("targets", "classes", "known", "message"), [
    ([0, 1, 3, 1], 3, None, "sample 2 of the train split has label 3; allowed: 0..2"),
    ([0, 1, 2, 1], 5, 2, "sample 2 of the train split has label 2; allowed: 0..1"),
    ([0, 1, 2, 1], 2, 5, "sample 2 of the train split has label 2; allowed: 0..1"),
    ([0, 1, 2, 1], None, 2, "sample 2 of the train split has label 2; allowed: 0..1"),
    ([0, 9, -1, 1], None, None, "sample 2 of the train split has label -1; allowed: 0 or more"),
    ([0, 1, 1, 255], 3, None, "sample 7 of the train split has label 255; allowed: 0..2"),
])
def test_an_index_outside_its_range_is_named(targets: list[int], classes: int | None,
                                             known: int | None, message: str) -> None:
    origin = ROWS._replace(classes=known)
    assert refused(check_indices, torch.tensor(targets), classes, origin) == message


def test_an_ignored_index_is_allowed_and_the_first_wrong_pixel_told() -> None:
    masks = torch.zeros(4, 2, 2, dtype=torch.long)
    masks[1] = 255
    check_indices(masks, 2, ROWS, ignored=255)
    masks[3, 1, 0] = 4
    message = "sample 7 of the train split has label 4; allowed: 0..1"
    assert refused(check_indices, masks, 2, ROWS, 255) == message


@pytest.mark.parametrize("targets", [torch.tensor([True, False]), torch.tensor([1, 0]),
                                     torch.tensor([1.0, 0.0]), torch.tensor([1, 0]).to(torch.uint8)])
def test_answers_of_any_type_become_float32(targets: torch.Tensor) -> None:
    found = as_answers(targets, ROWS, "0 or 1")
    assert found.dtype == torch.float32
    assert found.tolist() == [1, 0]


@pytest.mark.parametrize(("value", "shown"), [(2, "2.0"), (-1, "-1.0"), (0.5, "0.5"), (NAN, "nan")])
def test_an_answer_that_is_neither_is_shown(value: float, shown: str) -> None:
    targets = torch.zeros(4, 2)
    targets[1, 1] = value
    assert refused(as_answers, targets, ROWS, "0 or 1") == (
        f"sample 9 of the train split has a target that is neither 0 nor 1: {shown}; expected 0 or "
        "1")


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_names_its_sample(value: float) -> None:
    targets = torch.zeros(4, 2)
    targets[2:, 1] = value
    assert refused(as_values, targets, ROWS, "values") == (
        "the target of sample 2 of the train split holds NaN or infinity; remove or fix it")


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_values_are_real_numbers(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    assert refused(as_values, torch.zeros(4, dtype=dtype), ROWS, "values") == (
        f"the targets of the train split are {name}; expected values")


def test_shapes_after_the_batch_are_compared() -> None:
    check_target_shape(torch.zeros(4, 2), (2,), ROWS)
    assert refused(check_target_shape, torch.zeros(4, 2, 3), (2,), ROWS) == (
        "the targets of the train split have shape (N, 2, 3), but the model's prediction asks for "
        "(N, 2)")
    assert refused(check_target_shape, torch.zeros(4, 2), (), ROWS).endswith("asks for (N,)")


@pytest.mark.parametrize("goal", [*(kind() for kind in GOALS.values()),
                                  Reconstruction(anomalies=True)], ids=lambda goal: goal.name)
def test_no_samples_are_no_error(goal: Goal) -> None:
    empty = Origin("test", torch.zeros(0, dtype=torch.long))
    targets = torch.zeros(0, dtype=torch.long)
    found = goal.check_targets(targets, empty)
    assert found is None or len(found) == 0
