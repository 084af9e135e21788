from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from edgewright.core import Preprocessing
from edgewright.errors import DataError, UsageError
from edgewright.task import DatasetSplit, ImageSplit, Split, Task, TensorSplit

X, Y = torch.arange(40.0).view(40, 1), torch.arange(40) % 4


def values(split: Any) -> Any:
    return {float(v) for batch in split.batches(7) for v in batch.inputs[0]}


def test_a_tenth_of_train_is_held_out_by_seed() -> None:
    task, same, other = (Task((X, Y), test=(X[:3], Y[:3]), seed=s) for s in (0, 0, 1))
    assert (len(task.train), len(task.val), len(task.test)) == (36, 4, 3)
    assert values(task.train) | values(task.val) == set(range(40))
    assert not values(task.train) & values(task.val)
    assert values(task.val) == values(same.val)
    assert values(task.val) != values(other.val)
    assert [s.name for s in (task.train, task.val, task.test)] == ["train", "val", "test"]


def test_a_given_validation_split_is_used_whole() -> None:
    task = Task((X, Y), (X[:5], Y[:5]), (X[5:7], Y[5:7]))
    assert (len(task.train), len(task.val), len(task.test)) == (40, 5, 2)
    assert task.num_classes is None
    assert repr(task) == "Task('task', train=40, val=5, test=2)"


def test_each_form_of_data_becomes_its_split() -> None:
    recipe = Preprocessing(channels=1, height=2, width=2, mean=(0.0,), std=(1.0,))
    images = torch.zeros(40, 1, 2, 2, dtype=torch.uint8)
    forms: list[tuple[Any, type[Split]]] = [((X, Y), TensorSplit), ((X.numpy(), Y.numpy()), TensorSplit),
             (((X, X), Y), TensorSplit), (TensorDataset(X, Y), DatasetSplit),
             (list(zip(X, Y, strict=True)), DatasetSplit), ((images, Y), ImageSplit),
             (TensorSplit(X, Y), TensorSplit)]
    for data, kind in forms:
        task = Task(data, test=data, preprocessing=recipe)
        assert isinstance(task.train, kind)
        assert len(task.train) == 36


def test_preprocessing_comes_from_image_splits() -> None:
    recipe = Preprocessing(channels=1, height=2, width=2, mean=(0.0,), std=(1.0,))
    split = ImageSplit(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), Y[:4], recipe)
    assert Task(split, split.select([0]), split.select([1])).preprocessing == recipe
    assert Task((X, Y), test=(X, Y)).preprocessing is None


def test_a_split_keeps_the_name_its_owner_gave_it() -> None:
    split = TensorSplit(X, Y, name="mine")
    Task(split, test=split.select([0]))
    assert split.name == "mine"


def test_labels_beyond_the_classes_raise() -> None:
    assert Task((X, Y), test=(X, Y), classes="abcd").num_classes == 4
    with pytest.raises(DataError, match=r"of the train split has label 3; allowed: 0\.\.2"):
        Task((X, Y), test=(X, Y), classes="abc")


def test_check_covers_every_split() -> None:
    task = Task((X, Y), (X[:2], Y[:2]), (X[:4], Y[:4]))
    task.check(torch.zeros(1, 4))
    task = Task((X[:2], Y[:2]), (X[:2], Y[:2]), (X[:4], Y[:4]))
    with pytest.raises(DataError, match=r"sample 3 of the test split has label 3; allowed: 0\.\.2"):
        task.check(torch.zeros(1, 3))


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({}, DataError, "task 'mine' has no test split; give one"),
    ({"test": (X, Y), "goal": "mse"}, UsageError, "unknown goal 'mse'; expected 'classification', "
                                                  "'binary'"),
    ({"test": (X, Y), "goal": {"a": "f1"}}, UsageError, "unknown goal 'f1'"),
    ({"test": (X[:0], Y[:0])}, DataError, "the test split of task 'mine' is empty"),
    ({"test": (X, Y), "val": (X[:0], Y[:0])}, DataError, "the val split of task 'mine' is empty"),
    ({"test": (X.byte(), Y)}, DataError, r"the test split holds uint8 images; give Task\(preproc"),
    ({"test": (X, Y.float())}, DataError, "the targets of the test split are float32"),
    ({"test": (X, Y[:39])}, DataError, "the test split has inputs of shape"),
    ({"test": (X / 0, Y)}, DataError, "sample 0 of the test split holds NaN or infinity"),
])
def test_invalid_tasks_raise(arguments: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Task((X, Y), name="mine", **arguments)


def test_the_test_split_cannot_be_the_validation_split() -> None:
    test = (X, Y)
    with pytest.raises(UsageError, match="val and test are the same object"):
        Task((X, Y), test, test)


def test_a_single_training_sample_cannot_be_split() -> None:
    with pytest.raises(DataError, match="has 1 samples; at least two are needed"):
        Task((X[:1], Y[:1]), test=(X, Y))
    task = Task((X[:2], Y[:2]), test=(X, Y))
    assert (len(task.train), len(task.val)) == (1, 1)


def test_a_pair_of_arrays_of_doubles_becomes_float32() -> None:
    data = (np.zeros((10, 2)), np.zeros(10, dtype=np.int16))
    task = Task(data, test=data)
    batch = next(task.train.batches(2))
    assert batch.inputs[0].dtype == torch.float32
    assert batch.targets.dtype == torch.int64
