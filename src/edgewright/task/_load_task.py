"""Load a Task from a data reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from edgewright.core import Preprocessing
from edgewright.errors import DataError, MissingExtraError, UsageError
from edgewright.task._data_ref import DataRef, parse_data_ref
from edgewright.task._encoded_images import EncodedImages, image_size
from edgewright.task._factory import build
from edgewright.task._image_split import Images, ImageSplit, TensorImages
from edgewright.task._image_table import ImageTable, read_image_table
from edgewright.task._normalization import measure_normalization, parse_normalization
from edgewright.task._sources import list_image_folder_tables, load_hub_tables, read_parquet_tables
from edgewright.task._task import VALIDATION_SHARE, Task, split_rows

if TYPE_CHECKING:
    import pyarrow as pa

_CIFAR10: Final = "uoft-cs/cifar10"
_DIGITS_TEST: Final = 0.25
_DIGITS_VAL: Final = 0.15


def load_task(ref: str, *, normalize: str | None = None, seed: int = 0) -> Task:
    """Load the task that a data reference names.

    ==========================  ===================================================================
    ``digits``                  scikit-learn's 1,797 grayscale images of 8 x 8; the test split (a
                                quarter) is the same for every seed
    ``cifar10``, ``:DIR``       from the Hugging Face Hub, or from a folder of its parquet files
    ``hf:NAME``, ``:CONFIG``    an image classification dataset on the Hub
    ``parquet:DIR``             ``train-*.parquet``, ``test-*.parquet``: bytes and integer labels
    ``imagefolder:DIR``         ``train/CLASS/*``, ``test/CLASS/*``
    ``file.py:factory``         a function without arguments that returns a `Task`; also
                                ``package.module:factory``
    ==========================  ===================================================================

    All images are converted to the size and channels of the first training image. Without a
    validation split, a tenth of the training split is held out; without a test split, the
    validation split serves as the test split. Images are decoded on first use. Augmentation
    mirrors color images only, because grayscale ones are mostly handwriting.

    Args:
        ref: The reference.
        normalize: None uses the mean and standard deviation of the training split. Give "imagenet"
            if the weights were trained with ImageNet's statistics, or "MEAN,STD": all means, then
            all standard deviations, one per channel.
        seed: Selects the samples that are held out for validation.

    Raises:
        UsageError: An unknown reference or normalization.
        DataError: The data is missing, cannot be reached, or cannot be used.
        MissingExtraError: A required library is not installed.

    Example:
        >>> load_task("digits")
        Task('digits', train=1077, val=270, test=450)
    """
    found = parse_data_ref(ref)
    if found.scheme == "digits":
        return _load_digits(normalize, seed)
    if found.is_normalized_by_task:
        tables, name = _read_tables(found)
        return _image_task(tables, name, normalize, seed)
    if normalize is not None:
        raise UsageError(f"normalize={normalize!r} cannot be applied to {ref!r}: a factory's Task "
                         "provides its own inputs; normalize them in the factory")
    return build(ref, Task, DataError)


def _read_tables(ref: DataRef) -> tuple[Mapping[str, pa.Table], str]:
    """The image tables that a reference names, by split, and the name of the data."""
    if ref.scheme == "hf":
        name, _, config = ref.location.partition(":")
        return load_hub_tables(name, config or None), name
    if not ref.location:
        return load_hub_tables(_CIFAR10), ref.scheme
    folder = Path(ref.location)
    if ref.scheme == "imagefolder":
        return list_image_folder_tables(folder), folder.resolve().name
    name = "cifar10" if ref.scheme == "cifar10" else folder.resolve().name
    return read_parquet_tables(folder), name


def _load_digits(normalize: str | None, seed: int) -> Task:
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - part of the extra, slow
        from sklearn.model_selection import train_test_split  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("the digits data", "compress") from error
    bunch = load_digits()
    labels = torch.from_numpy(bunch.target).long()
    rest, test = train_test_split(np.arange(len(labels)), test_size=_DIGITS_TEST,
                                  stratify=bunch.target, random_state=0)
    train, val = train_test_split(rest, test_size=_DIGITS_VAL / (1 - _DIGITS_TEST),
                                  stratify=bunch.target[rest], random_state=seed)
    pixels = torch.from_numpy(bunch.images).to(torch.uint8)[:, None]
    recipe = _preprocessing(TensorImages(pixels, "train"), np.sort(train), normalize, scale=1 / 16)
    whole = ImageSplit(pixels, labels, recipe, flip=False)
    parts = [whole.select(torch.from_numpy(np.sort(part))) for part in (train, val, test)]
    return Task(parts[0], parts[1], parts[2], classes=[str(digit) for digit in range(10)],
                name="digits", seed=seed)


def _image_task(tables: Mapping[str, pa.Table], name: str, normalize: str | None,
                seed: int) -> Task:
    chosen = _choose_splits(tables, name)
    read = {split: read_image_table(table, f"the {split} split of {name}")
            for split, table in chosen.items()}
    empty = [split for split, table in read.items() if not table.files]
    if empty:
        raise DataError(f"the {empty[0]} split of {name} is empty")
    size = image_size(read["train"].files[0], f"sample 0 of the train split of {name}")
    images = {split: EncodedImages(table.files, size, split) for split, table in read.items()}
    rows = np.arange(len(read["train"].files))
    if "val" not in read:
        rows = split_rows(len(rows), VALIDATION_SHARE, seed)[0].numpy()
    recipe = _preprocessing(images["train"], rows, normalize, scale=1 / 255)
    flip = recipe.channels > 1
    splits = {split: ImageSplit(images[split], table.labels, recipe, flip=flip, name=split)
              for split, table in read.items()}
    return Task(splits["train"], splits.get("val"), splits["test"], classes=_classes(read, name),
                name=name, seed=seed)


def _choose_splits(tables: Mapping[str, pa.Table], name: str) -> dict[str, pa.Table]:
    chosen = {split: tables[split] for split in ("train", "val", "test") if split in tables}
    if "test" not in chosen and "val" in chosen:
        chosen["test"] = chosen.pop("val")
    if not {"train", "test"} <= chosen.keys():
        raise DataError(f"{name} has the splits {', '.join(sorted(tables)) or '(none)'}; expected "
                        "train, and test or validation")
    return chosen


def _classes(tables: Mapping[str, ImageTable], name: str) -> tuple[str, ...] | None:
    classes = tables["train"].classes
    for split, table in tables.items():
        if table.classes != classes:
            raise DataError(f"{name}: the {split} split has the classes {table.classes}, but train "
                            f"has {classes}")
    return classes


def _preprocessing(images: Images, rows: NDArray[np.int64], normalize: str | None,
                   scale: float) -> Preprocessing:
    _, channels, height, width = images.shape
    found = (measure_normalization(images, rows, scale) if normalize is None
             else parse_normalization(normalize, channels))
    return Preprocessing(channels=channels, height=height, width=width, scale=scale,
                         mean=found.mean, std=found.std)
