"""Data as people have them: dicts, trees of targets, loaders, lists of records, no targets."""

from __future__ import annotations

from collections import UserDict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from edgewright.core import Preprocessing
from edgewright.errors import DataError, UsageError
from edgewright.goals import Classification, CustomGoal, MultiTask, Reconstruction
from edgewright.task import DatasetSplit, ImageSplit, Task, TensorSplit, View
from edgewright.task._collate import collate_targets

X, Y = torch.randn(12, 4), torch.arange(12) % 3
BOXES = [{"boxes": torch.ones(row % 3, 4), "label": row} for row in range(12)]


class Anything:
    higher_is_better = True

    def update(self, outputs: Any, targets: Any) -> None:
        pass

    def compute(self) -> float:
        return 0.0

    def reset(self) -> None:
        pass


ANY = CustomGoal(lambda outputs, targets: outputs.sum(), {"any": Anything()})
EACH = replace(ANY, lists_targets=True)


def targets_of(data: Any, count: int = 3, **settings: Any) -> Any:
    return next(Task(data, test=data, **settings).test.batches(count)).targets


def same(found: Any, expected: Any) -> bool:
    """Whether two trees have the same structure and tensors."""
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, tuple | list):
        return type(found) is type(expected) and len(found) == len(expected) and all(
            map(same, found, expected))
    return bool(found == expected)


@pytest.mark.parametrize(("targets", "expected"), [
    ([1, 2], torch.tensor([1, 2])), ([[1, 0], [0, 1]], torch.tensor([[1, 0], [0, 1]])),
    ([np.uint16(1), np.uint16(2)], torch.tensor([1, 2])), ([None, None], None),
    ([np.zeros(2), np.ones(2)], torch.tensor([[0.0, 0], [1, 1]]).double()),
    ([(1, 2.0), (3, 4.0)], (torch.tensor([1, 3]), torch.tensor([2.0, 4.0]).double())),
    ([{"a": [1, 2], "b": None}] * 2, {"a": torch.tensor([[1, 2], [1, 2]]), "b": None}),
    ([{"a": ([1], {"c": 5})}] * 2, {"a": (torch.tensor([[1], [1]]), {"c": torch.tensor([5, 5])})}),
    ([[], [1]], [torch.tensor([]), torch.tensor([1])]),
    ([{"a": 1}, {"b": 1}], [{"a": torch.tensor(1)}, {"b": torch.tensor(1)}]),
    ([torch.zeros(1), None], [torch.zeros(1), None]),
    (["cat", "dog"], ["cat", "dog"]),
])
def test_targets_of_one_structure_are_stacked_and_others_listed(targets: Any,
                                                                expected: Any) -> None:
    found = collate_targets(targets)
    assert same(found, expected), found


@pytest.mark.parametrize("streams", [False, True])
def test_targets_of_differing_length_stay_with_their_samples(streams: bool) -> None:
    data = list(zip(X, BOXES, strict=True)) if streams else (X, BOXES)
    split = Task(data, data, (X[:5], BOXES[:5]), goal=EACH).train
    batches = [*split.batches(5, shuffle_seed=1), *split.batches(1)]  # one can always be stacked
    for batch in batches:
        assert [int(target["label"]) for target in batch.targets] == batch.rows.tolist()
        assert [len(target["boxes"]) for target in batch.targets] == (batch.rows % 3).tolist()


@pytest.mark.parametrize("streams", [False, True])
def test_targets_of_differing_length_are_refused_where_they_are_to_be_stacked(streams: bool) -> None:
    data = list(zip(X, BOXES, strict=True)) if streams else (X, BOXES)

    def read() -> None:
        list(Task(data, data, (X[:5], Y[:5]), goal=ANY).train.batches(5))

    with pytest.raises(DataError, match=r"the targets of the train split cannot be stacked, because "
                       r"they differ in size; set CustomGoal\(lists_targets=True\)"):
        read()
    goal: Any = {"class": "classification", "box": EACH}
    targets = {"class": Y, "box": BOXES}
    batch = next(Task((X, targets), test=(X, targets), goal=goal).test.batches(1))
    assert len(batch.targets["box"]) == 1
    assert batch.targets["class"].tolist() == [0]


def test_a_list_of_labels_is_one_label_per_sample() -> None:
    assert targets_of((X, Y.tolist())).tolist() == [0, 1, 2]
    assert targets_of((X, {"a": Y.tolist(), "b": Y.numpy()}), goal={
        "a": "classification", "b": "classification"})["a"].tolist() == [0, 1, 2]


RECORDS = [{"ids": [row, 2, 3], "mask": [1, 1, 0], "label": row % 3, "text": f"row {row}"}
           for row in range(12)]


@pytest.mark.parametrize("kind", [dict, UserDict])
def test_records_of_lists_become_inputs_and_targets(kind: Any) -> None:
    records = [kind(record) for record in RECORDS]
    task = Task(records, test=records[:3], inputs=("mask", "ids"), goal={"label": "classification"})
    batch = next(task.test.batches(2))
    assert [tensor.tolist() for tensor in batch.inputs] == [[[1, 1, 0]] * 2, [[0, 2, 3], [1, 2, 3]]]
    assert batch.targets["label"].tolist() == [0, 1]
    only = [{"x": record["ids"], "y": record["label"]} for record in RECORDS]
    assert targets_of(only, inputs=("x",)).tolist() == [0, 1, 2]
    assert targets_of([{"x": [0.0, 1.0]}] * 3, inputs=("x",), goal="reconstruction").shape == (3, 2)


def test_text_in_records_counts_in_the_digest() -> None:
    def digest(text: str) -> str:
        return DatasetSplit([{**RECORDS[0], "text": text}] * 2, input_names=("ids",)).digest()

    assert digest("a") == digest("a") != digest("b")


def test_inputs_by_name_may_be_the_first_of_a_pair() -> None:
    samples = [({"a": x, "b": x + 1}, int(y)) for x, y in zip(X, Y, strict=True)]
    batch = next(Task(samples, test=samples, inputs=("b", "a")).test.batches(3))
    assert torch.equal(batch.inputs[0], batch.inputs[1] + 1)
    assert batch.targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("data", "settings", "message"), [
    (RECORDS, {}, "a sample of the train split is a dict with ids, mask, label, text; say which "
                  r"entries are the model's inputs, in the order of its arguments: Task\(..., inpu"),
    (RECORDS, {"inputs": ("ids", "image")}, "a sample of the train split has no image; it has ids, "
                                            "mask, label, text"),
    (RECORDS, {"inputs": ("ids", "mask")}, "are a dict of label, text; expected one tensor"),
    (RECORDS, {"inputs": ("text",)}, "a batch of the train split holds str"),
    ([({"a": X[0]}, 1)] * 3, {}, "is a dict with a; say which entries are the model's inputs"),
    ((X, (Y, Y)), {}, "the targets of the train split are a tuple; expected one tensor"),
    ((X, "labels"), {}, "the targets of the train split are a str; expected a tensor or an array"),
    ((X, {"a": Y[:5]}), {"goal": ANY}, r"inputs of shape \(12, 4\) but targets of shape \(5,\)"),
    ((X, BOXES[:5]), {"goal": EACH}, r"inputs of shape \(12, 4\) but targets of shape list of 5"),
    ((X, None), {}, "the train split has no targets; expected the index of each sample's class"),
    ((X, None), {"goal": Reconstruction(input=1)}, "reconstructs input 1, but the data have 1 inp"),
])
def test_what_cannot_be_used_is_refused_when_the_task_is_made(data: Any, settings: dict[str, Any],
                                                              message: str) -> None:
    with pytest.raises(DataError, match=message):
        Task(data, test=data, **settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loaders_dataset_is_read_in_our_batches(workers: int) -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True, drop_last=True,
                        num_workers=workers)
    split = Task(loader, test=loader).test
    assert len(split) == 12
    batches = list(split.batches(7))
    assert torch.equal(torch.cat([batch.inputs[0] for batch in batches]), X)
    assert torch.equal(torch.cat([batch.targets for batch in batches]), Y)


SOURCE = TensorDataset(X, Y)


@pytest.mark.parametrize(("settings", "name"), [
    ({"sampler": WeightedRandomSampler([1.0] * 12, 12)}, "WeightedRandomSampler"),
    ({"sampler": SubsetRandomSampler(range(3))}, "SubsetRandomSampler"),
    ({"sampler": RandomSampler(SOURCE, replacement=True)}, "RandomSampler"),
    ({"sampler": RandomSampler(SOURCE, num_samples=5)}, "RandomSampler"),
    ({"sampler": SequentialSampler(range(3))}, "SequentialSampler"),
    ({"batch_sampler": [[0, 0], [1, 1]]}, "list"),
])
def test_a_loader_that_selects_samples_is_refused(settings: Any, name: str) -> None:
    with pytest.raises(UsageError, match=f"the train split is a DataLoader with a {name} that "
                                         "selects or repeats samples, which would be ignored"):
        DatasetSplit(DataLoader(SOURCE, **settings), name="train")


def test_plain_samplers_are_accepted() -> None:
    for settings in ({"sampler": SequentialSampler(SOURCE)}, {"shuffle": True}, {"batch_size": None},
                     {"batch_sampler": BatchSampler(SequentialSampler(SOURCE), 4, False)}):
        assert len(DatasetSplit(DataLoader(SOURCE, **settings))) == 12


def as_dict(samples: list[Any]) -> dict[str, Any]:
    return {"x": np.stack([sample[0].numpy() for sample in samples]),
            "y": np.array([sample[1] for sample in samples])}


def as_pair(samples: list[Any]) -> tuple[Any, Any]:
    return torch.stack([sample[0] for sample in samples]), [sample[1] for sample in samples]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collate_function_makes_the_batches(workers: int) -> None:
    loader = DataLoader(SOURCE, collate_fn=as_dict, num_workers=workers)
    batches = list(Task(loader, test=loader, inputs=("x",)).test.batches(5))
    assert torch.equal(torch.cat([batch.inputs[0] for batch in batches]), X)
    assert torch.equal(torch.cat([batch.targets for batch in batches]), Y)
    batch = next(Task(SOURCE, test=SOURCE, collate_fn=as_pair, goal=EACH).test.batches(5))
    assert isinstance(batch.targets, list)


def fails(samples: list[Any]) -> Any:
    raise ZeroDivisionError("mine")


def three(samples: list[Any]) -> Any:
    return 1, 2, 3


class Broken(TensorDataset):
    def __getitem__(self, index: int) -> Any:
        raise KeyError("mine")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("source", "collate_fn", "message"), [
    (SOURCE, fails, "the collate function of the val split failed: ZeroDivisionError: mine"),
    (SOURCE, three, "the collate function of the val split returned a tuple of length 3; expected "
                    "(inputs, targets) or a dict"),
    (Broken(X, Y), None, "sample 0 of the val split cannot be read: KeyError: 'mine'"),
    (Broken(X, Y), as_pair, "sample 0 of the val split cannot be read: KeyError: 'mine'"),
])
def test_errors_are_one_line_also_from_worker_processes(source: Any, collate_fn: Any, message: str,
                                                        workers: int) -> None:
    split = DatasetSplit(source, collate_fn=collate_fn, workers=workers, name="val")
    with pytest.raises(DataError) as caught:
        list(split.batches(4))
    assert str(caught.value) == message


RECIPE = Preprocessing(channels=1, height=8, width=8, mean=(0.5,), std=(0.5,))
IMAGES = torch.randint(0, 255, (12, 1, 8, 8), dtype=torch.uint8,
                       generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("goal", "targets", "is_augmented"), [
    ("classification", Y, True), ("binary", Y % 2, True), ("multi-label", torch.ones(12, 3), True),
    ("embedding", Y, True), ("reconstruction", None, True),
    ("segmentation", torch.zeros(12, 8, 8, dtype=torch.uint8), False),
    ("multi-label", torch.ones(12, 1, 8, 8), False), ("regression", torch.ones(12, 2), False),
    (EACH, BOXES, False), ({"a": "classification", "b": "binary"}, (Y, Y % 2), True),
    ({"a": "classification", "b": "regression"}, (Y, torch.ones(12)), False),
])
def test_images_are_augmented_only_if_the_targets_stay_right(goal: Any, targets: Any,
                                                             is_augmented: bool) -> None:
    data = (IMAGES, targets)
    split = Task(data, test=data, goal=goal, preprocessing=RECIPE).test
    plain, varied = next(split.batches(12)), next(split.batches(12, view=View(1)))
    assert torch.equal(plain.inputs[0], varied.inputs[0]) != is_augmented
    assert split.variation == ("rand_augment, standard" if is_augmented else "none")
    if not is_augmented:
        with pytest.raises(UsageError, match="does not support 'rand_augment': the targets would "
                                             "not follow the distorted images; give a Dataset"):
            split.batches(4, view=View(1, "rand_augment"))
    if goal == "reconstruction":
        assert torch.equal(varied.targets, varied.inputs[0])


def test_lengths_of_images_and_trees_of_targets_are_compared() -> None:
    assert len(ImageSplit(IMAGES, BOXES, RECIPE)) == 12
    for wrong in (BOXES[:11], {"a": Y[:11]}, (Y, Y[:11])):
        with pytest.raises(DataError, match="the data split has 12 images but 11 targets"):
            ImageSplit(IMAGES, wrong, RECIPE)


@pytest.mark.parametrize("streams", [False, True])
def test_class_names_bound_the_labels(streams: bool) -> None:
    data = list(zip(X, Y.tolist(), strict=True)) if streams else (X, Y)

    def read() -> None:
        list(Task(data, test=data, classes="ab").test.batches(4))

    with pytest.raises(DataError, match=r"sample \d of the \w+ split has label 2; allowed: 0\.\.1"):
        read()
    Task(data, test=data, classes="abc")
    goal = MultiTask({"a": Classification()})
    assert len(Task((X, {"a": Y}), test=(X, {"a": Y}), classes="ab", goal=goal).test) == 12


def test_a_split_serves_several_goals() -> None:
    split = TensorSplit(X, Y % 2)
    first = Task(split, test=split, goal="binary")
    second = Task(split, test=split, goal="classification")
    assert next(first.test.batches(2)).targets.dtype == torch.float32
    assert next(second.test.batches(2)).targets.dtype == torch.int64
    assert torch.equal(split.targets(), Y % 2)
