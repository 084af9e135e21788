"""Every kind of split must pass the first tests; the rest are each kind's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from edgewright.core import Preprocessing
from edgewright.errors import DataError, UsageError
from edgewright.goals import Classification
from edgewright.task import DatasetSplit, ImageSplit, TensorSplit, View

COUNT = 11
RECIPE = Preprocessing(channels=3, height=8, width=6, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
PIXELS = torch.randint(0, 256, (COUNT, 3, 8, 6), dtype=torch.uint8,
                       generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(COUNT) % 3


def image_split() -> Any:
    return ImageSplit(PIXELS, LABELS, RECIPE)


def tensor_split() -> Any:
    return TensorSplit(PIXELS.float(), LABELS)


def dataset_split() -> Any:
    return DatasetSplit(TensorDataset(PIXELS.float(), LABELS))


def iterable_split() -> Any:
    class Stream:
        def __iter__(self) -> Any:
            return iter(zip(PIXELS.double(), LABELS.tolist(), strict=True))

    return DatasetSplit(Stream())


@pytest.fixture(params=[image_split, tensor_split, dataset_split, iterable_split])
def split(request: pytest.FixtureRequest) -> Any:
    return request.param()


def collect(split: Any, **kwargs: Any) -> tuple[Any, ...]:
    batches = list(split.batches(4, **kwargs))
    return torch.cat([b.inputs[0] for b in batches]), torch.cat([b.targets for b in batches])


def test_batches_cover_every_sample_in_order(split: Any) -> None:
    assert [len(b.targets) for b in split.batches(4)] == [4, 4, 3]
    inputs, targets = collect(split)
    assert torch.equal(targets, LABELS)
    assert inputs.dtype == torch.float32
    assert inputs.shape == PIXELS.shape


def test_the_order_depends_on_the_seed_alone(split: Any) -> None:
    first, again, other = (collect(split, shuffle_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(first[1].sort().values, LABELS.sort().values)


def test_inputs_and_targets_are_shuffled_together(split: Any) -> None:
    plain, _ = collect(split)
    inputs, targets = collect(split, shuffle_seed=3)
    for image, label in zip(inputs, targets, strict=True):
        row = next(r for r in range(COUNT) if torch.equal(plain[r], image))
        assert LABELS[row] == label


def test_select_composes_and_leaves_the_original_alone(split: Any) -> None:
    part = split.select([8, 2, 5]).select(torch.tensor([2, 0]))
    assert len(part) == 2
    assert len(split) == COUNT
    whole, _ = collect(split)
    inputs, targets = collect(part)
    assert torch.equal(inputs, whole[[5, 8]])
    assert torch.equal(targets, LABELS[[5, 8]])


def test_sample_is_a_seeded_subset_in_order(split: Any) -> None:
    one, same, other = (collect(split.sample(5, seed=s))[0] for s in (0, 0, 1))
    assert len(one) == 5
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(split.sample(100)) == COUNT


def test_example_is_a_batch_of_the_first_inputs(split: Any) -> None:
    whole, _ = collect(split)
    (first,) = split.example(3)
    assert torch.equal(first, whole[:3])
    assert split.example(100)[0].shape[0] == COUNT


def test_with_name_returns_a_renamed_copy(split: Any) -> None:
    assert split.with_name("val").name == "val"
    assert split.name == "data"


def test_a_batch_size_below_one_is_refused(split: Any) -> None:
    with pytest.raises(UsageError, match="batch_size must be at least 1, got 0"):
        split.batches(0)


def test_an_empty_split_is_refused(split: Any) -> None:
    with pytest.raises(DataError, match="the val split is empty"):
        split.select([]).with_name("val").batches(2)


def test_a_label_too_large_is_named_with_its_original_index(split: Any) -> None:
    part = split.select([3, 4, 5]).with_name("train").for_goal(Classification())

    def check() -> None:
        part.check(torch.zeros(1, 2))
        list(part.batches(2))

    with pytest.raises(DataError, match=r"sample 5 of the train split has label 2; allowed: 0\.\.1"):
        check()
    with pytest.raises(DataError, match=r"sample 5 of the train split has label 2; allowed: 0\.\.1"):
        list(split.select([3, 4, 5]).with_name("train").for_goal(Classification(), 2).batches(2))
    split = split.for_goal(Classification())
    split.check(torch.zeros(1, 3))
    assert len(list(split.batches(4))) == 3


def test_start_skips_whole_batches(split: Any) -> None:
    batches = list(split.batches(4, shuffle_seed=1, view=View(1)))
    later = list(split.batches(4, shuffle_seed=1, view=View(1), start=1))
    assert len(later) == len(batches) - 1
    assert all(torch.equal(one.inputs[0], other.inputs[0])
               for one, other in zip(batches[1:], later, strict=True))


def test_rows_index_the_underlying_data_after_select(split: Any) -> None:
    part = split.select([4, 1, 3]).select([2, 0])
    assert [batch.rows.tolist() for batch in part.batches(1)] == [[3], [4]]


def test_images_are_normalized_by_the_preprocessing() -> None:
    expected = (PIXELS.double() / 255 - torch.tensor(RECIPE.mean).double().view(1, 3, 1, 1))
    expected /= torch.tensor(RECIPE.std).double().view(1, 3, 1, 1)
    torch.testing.assert_close(collect(image_split())[0].double(), expected, rtol=0, atol=1e-6)


def test_augmentation_varies_by_seed_and_only_when_asked() -> None:
    split = image_split()
    one, same, other = (collect(split, view=View(number))[0] for number in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    plain, targets = collect(split)
    assert not torch.equal(one, plain)
    assert torch.equal(targets, collect(split, view=View(0))[1])


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_view_of_a_sample_is_the_same_in_any_batch_and_order(batch_size: int) -> None:
    split = image_split()
    whole = next(split.batches(len(split), view=View(7)))
    for batch in split.batches(batch_size, shuffle_seed=3, view=View(7)):
        assert batch.view == View(7)
        assert torch.equal(batch.inputs[0], whole.inputs[0][batch.rows])
        assert torch.equal(batch.targets, whole.targets[batch.rows])


def test_several_inputs_reach_the_model_in_order() -> None:
    split = TensorSplit((torch.zeros(4, 2), torch.ones(4, 5)), torch.zeros(4, dtype=torch.int32))
    assert [tuple(t.shape) for t in next(split.batches(3)).inputs] == [(3, 2), (3, 5)]
    samples = [((torch.zeros(2), torch.ones(5)), 0), ((torch.zeros(2), torch.ones(5)), 1)]
    assert [tuple(t.shape) for t in DatasetSplit(samples).example(2)] == [(2, 2), (2, 5)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_values_are_named_in_the_error(bad: Any) -> None:
    inputs = torch.zeros(6, 3)
    inputs[4, 1] = bad
    with pytest.raises(DataError, match="sample 4 of the train split holds NaN or infinity"):
        TensorSplit(inputs, torch.zeros(6, dtype=torch.long), name="train")
    split = DatasetSplit(list(zip(inputs, [0] * 6, strict=True)), name="train")
    with pytest.raises(DataError, match="sample 4 of the train split holds NaN or infinity"):
        list(split.batches(2, shuffle_seed=0))


@pytest.mark.parametrize(("targets", "message"), [
    (torch.zeros(4), "are float32; expected integers"),
    (torch.zeros(4, dtype=torch.bool), "are bool; expected integers"),
    (torch.zeros(4, 2, dtype=torch.long), r"have shape \(4, 2\); expected the index of each sample's class"),
    (torch.zeros(3, dtype=torch.long), r"inputs of shape \(4, 2\) but targets of shape \(3,\)"),
    (torch.tensor([0, 1, -1, 0]), "sample 2 of the data split has label -1; allowed: 0 or more"),
])
def test_targets_that_are_not_class_indices_raise(targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TensorSplit(torch.zeros(4, 2), targets).for_goal(Classification())


def test_images_that_do_not_match_the_preprocessing_raise() -> None:
    with pytest.raises(DataError, match=r"float32 of shape \(11, 3, 8, 6\); expected uint8"):
        ImageSplit(PIXELS.float(), LABELS, RECIPE)
    with pytest.raises(DataError, match=r"are \(3, 6, 8\) .* preprocessing is for \(3, 8, 6\)"):
        ImageSplit(PIXELS.transpose(2, 3), LABELS, RECIPE)
    with pytest.raises(DataError, match="11 images but 10 targets"):
        ImageSplit(PIXELS, LABELS[:10], RECIPE)


class Faulty(Dataset[Any]):
    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> Any:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[index]


@pytest.mark.parametrize(("samples", "message"), [
    ([{"image": 1}], r"a sample of the data split is a dict with image; say which entries are the "
                     r"model's inputs.*: Task\(..., inputs=\(...\)\)"),
    ([(1, 2, 3)], "is a tuple of length 3; expected a pair"),
    ([(torch.zeros(2), 0), (torch.zeros(3), 0)], "do not form a batch: stack expects"),
    ([("text", 0)], "holds str"),
    ([(torch.zeros(2), 0.5)], "are float64; expected integers"),
    ([torch.zeros(2)], r"is a Tensor of shape \(2,\); expected a pair \(input, target\), whose target "
                       "may be None, or a dict"),
    ([(torch.zeros(2), None)], "the data split has no targets; expected the index"),
    ([(torch.zeros(2), (0, 1))], "the targets of the data split are a tuple; expected one tensor"),
    ([(torch.zeros(2), {"a": 0, "b": 1})], "the targets of the data split are a dict of a, b; exp"),
])
def test_invalid_samples_are_named_in_the_error(samples: list[dict[str, Any]] | list[tuple[Any, ...]] | list[tuple[int, ...]],
                                                message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(DatasetSplit(Faulty(samples)).for_goal(Classification()).batches(2))


def test_an_iterator_raises_because_it_is_exhausted_after_one_pass() -> None:
    with pytest.raises(DataError, match=r"is an iterator \(zip\), exhausted after one pass"):
        DatasetSplit(zip(PIXELS, LABELS, strict=True))


def test_other_objects_raise() -> None:
    with pytest.raises(DataError, match="is a int; expected a Dataset"):
        DatasetSplit(3)  # type: ignore[arg-type]


def test_an_error_of_the_users_own_dataset_names_the_sample() -> None:
    class Broken(Faulty):
        def __getitem__(self, index: Any) -> None:
            raise ZeroDivisionError("mine")

    with pytest.raises(DataError, match=r"sample 0 of the data split cannot be read: "
                                        r"ZeroDivisionError: mine"):
        list(DatasetSplit(Broken([1, 2])).batches(2))


def test_numpy_labels_of_a_dataset_are_accepted() -> None:
    split = DatasetSplit([(np.zeros(2, dtype=np.float32), np.int32(1))] * 3)
    assert next(split.batches(3)).targets.tolist() == [1, 1, 1]
