"""Numbers of any kind become what models take; what are no numbers is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from edgewright.errors import DataError
from edgewright.task import Task

X, Y = torch.randn(12, 3, 4, 4), torch.arange(12) % 3


def task(inputs: Any, targets: Any = Y) -> Any:
    return Task((inputs, targets), test=(inputs, targets))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64,
                                   torch.int8, torch.int16, torch.int32])
def test_labels_of_every_integer_type_become_int64(dtype: Any) -> None:
    labels = next(task(X, Y.to(dtype)).test.batches(12)).targets
    assert labels.dtype == torch.int64
    assert torch.equal(labels, Y)


def test_unsigned_labels_of_numpy_stream() -> None:
    samples = [(torch.zeros(2), np.uint64(index % 3)) for index in range(6)]
    assert next(Task(samples, test=samples).test.batches(6)).targets.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_inputs_of_every_floating_type_become_float32(dtype: Any) -> None:
    inputs = task(X.to(dtype)).test.example(12)[0]
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs, X.to(dtype).float(), rtol=0, atol=0)
    samples = [(row.to(dtype), 0) for row in X]
    assert torch.equal(Task(samples, test=samples).test.example(12)[0], inputs)


@pytest.mark.parametrize("change", [lambda a: a[::-1], lambda a: a.astype(">f4"),
                                    lambda a: np.broadcast_to(a[:1], a.shape)],
                         ids=["reversed", "big_endian", "read_only"])
def test_arrays_that_torch_cannot_share_are_copied(change: Callable[..., Any]) -> None:
    array = change(X.numpy())
    inputs = task(array, Y.numpy()).test.example(12)[0]
    assert np.array_equal(inputs.numpy(), array)


@pytest.mark.parametrize(("inputs", "targets", "message"), [
    (np.array([np.zeros(3), np.zeros(4)], dtype=object), Y[:2],
     "the inputs of the train split are an array of objects.*pad or crop the samples to one shape"),
    (X, np.array(["cat", "dog"] * 6), "the targets of the train split are an array of <U3.*number"),
    (np.zeros(12, "datetime64[s]"), Y, r"an array of datetime64\[s\]"),
    (X.to_sparse(), Y, "stored as sparse_coo; expected a dense tensor"),
    (X.to("meta"), Y, "are on the meta device"),
    (X.to(torch.complex64), Y, "is complex64; give its real and imaginary part as two channels"),
    (X, Y.float(), r"float32; expected integers, .*\(argmax\(1\) of one-hot rows"),
    ((torch.zeros(12, 5, 8), torch.zeros(2, 12, 16)), Y,
     r"transpose the input of shape \(2, 12, 16\), and transpose it back within the model"),
    (torch.tensor(1.0), Y, r"inputs of shape \(\) but targets of shape \(12,\)"),
])
def test_unsupported_arrays_raise_data_error(inputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        task(inputs, targets)


@pytest.mark.parametrize(("split", "message"), [
    (X, "is a Tensor alone; expected a Dataset, a pair"),
    (X.numpy(), "is a ndarray alone"),
    ("photos/", "is a str alone"),
    ({"inputs": X}, "is a dict alone"),
    ((X, Y, Y), r"a tuple of 3 \(Tensor, Tensor, Tensor\).*\(\(first, second\), targets\)"),
    (([[1.0, 2.0], [3.0, 4.0]], [0, 1]), r"a tuple of 2 \(list, list\)"),
    (([X, X], Y), r"a tuple of 2 \(list, Tensor\)"),
])
def test_invalid_splits_raise_before_being_read(split: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"the train split {message}" if message.startswith("is")
                       else message):
        Task(split, test=(X, Y))


class Rows(Dataset[Any]):
    def __init__(self, width: Any) -> None:
        self.width = width

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return torch.full((self.width,), float(index)), index % 2


@pytest.mark.parametrize(("train", "val", "test", "message"), [
    ((X, Y), (X[:5, :1], Y[:5]), (X, Y), r"of the val split is float32 \(1, 4, 4\), but one of the "
                                         r"train split is float32 \(3, 4, 4\)"),
    ((X, Y), None, (X.long(), Y), r"of the test split is int64 \(3, 4, 4\)"),
    (((X, X), Y), None, (X, Y), r"train split is float32 \(3, 4, 4\) and float32 \(3, 4, 4\)"),
    (Rows(3), Rows(4), Rows(3), r"of the val split is float32 \(4,\)"),
])
def test_splits_with_different_input_shapes_raise(train: Any, val: Any, test: Any,
                                                  message: str) -> None:
    with pytest.raises(DataError, match=message):
        Task(train, val, test)
