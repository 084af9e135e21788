"""A split's digest is of every sample."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgewright.core import Preprocessing
from edgewright.task import DatasetSplit, ImageSplit, TensorSplit, load_task

COUNT = 700  # more than are looked at at a time
RECIPE = Preprocessing(channels=1, height=4, width=4, mean=(0.5,), std=(0.5,))


def tensors(change: Any = None, labels: Any = None) -> tuple[Any, ...]:
    x = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(COUNT) % 3
    if change is not None:
        x[change, 1] += 1e-3
    if labels is not None:
        y[labels] = (y[labels] + 1) % 3
    return x, y


def images(change: Any = None, labels: Any = None, flip: bool = True) -> Any:
    pixels = torch.arange(COUNT * 16).remainder(251).to(torch.uint8).view(COUNT, 1, 4, 4)
    y = torch.arange(COUNT) % 3
    if change is not None:
        pixels[change, 0, 3, 3] ^= 1
    if labels is not None:
        y[labels] = (y[labels] + 1) % 3
    return ImageSplit(pixels, y, RECIPE, flip=flip)


def tensor_split(**changes: Any) -> Any:
    return TensorSplit(*tensors(**changes))


def dataset_split(**changes: Any) -> Any:
    x, y = tensors(**changes)
    return DatasetSplit([(a, int(b)) for a, b in zip(x, y, strict=True)])


@pytest.mark.parametrize("make", [tensor_split, images, dataset_split])
def test_digest_depends_on_every_bit_of_samples_and_labels(make: Any) -> None:
    whole = make().digest()
    assert whole == make().digest() == make().with_name("other").digest()
    others = {make(change=row).digest() for row in (0, 255, 256, 511, COUNT - 1)}
    others |= {make(labels=row).digest() for row in (0, 300, COUNT - 1)}
    assert len(others | {whole}) == 9


@pytest.mark.parametrize("make", [tensor_split, images, dataset_split])
def test_digest_depends_on_order_and_selection(make: Any) -> None:
    split = make()
    order = torch.arange(COUNT)
    digests = {split.digest(), split.select(order.flip(0)).digest(),
               split.select(order[:-1]).digest(), split.select(order[1:]).digest()}
    assert len(digests) == 4
    assert split.select(order).digest() == split.digest()


def test_digest_depends_on_dtypes_and_shapes() -> None:
    x, y = tensors()
    assert TensorSplit(x.half(), y).digest() != TensorSplit(x, y).digest()
    assert TensorSplit(x[:, :, None], y).digest() != TensorSplit(x, y).digest()


def test_digest_depends_on_normalization_and_variation_names_flips() -> None:
    other = ImageSplit(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3), RECIPE)
    lighter = ImageSplit(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3),
                         RECIPE.model_copy(update={"mean": (0.4,)}))
    assert other.digest() != lighter.digest()
    assert images(flip=False).digest() == images().digest()
    assert images(flip=False).variation != images().variation


def test_a_dataset_that_draws_from_the_global_generators_has_one_digest() -> None:
    class Noisy:
        def __len__(self) -> int:
            return 9

        def __getitem__(self, index: Any) -> tuple[Any, ...]:
            noise = random.random() + float(np.random.rand())  # noqa: S311 - of a dataset
            return torch.rand(2) + noise, index % 2

    state = torch.get_rng_state()
    first = DatasetSplit(Noisy()).digest()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert DatasetSplit(Noisy()).digest() == first


def test_encoded_images_are_hashed_without_decoding(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for index in range(2):
                buffer = io.BytesIO()
                Image.fromarray(np.full((4, 4, 3), 40 * index, np.uint8)).save(buffer, "PNG")
                (folder / f"{index}.png").write_bytes(buffer.getvalue())
    pytest.importorskip("datasets")
    before = load_task(f"imagefolder:{tmp_path}", normalize="imagenet")
    digests = [before.train.digest(), before.test.digest()]
    changed = tmp_path / "test" / "dog" / "1.png"
    Image.fromarray(np.full((4, 4, 3), 41, np.uint8)).save(changed)
    after = load_task(f"imagefolder:{tmp_path}", normalize="imagenet")
    assert after.train.digest() == digests[0]
    assert after.test.digest() != digests[1]
