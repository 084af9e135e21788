from __future__ import annotations

import importlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from edgewright.core import Preprocessing
from edgewright.errors import DataError, MissingExtraError, UsageError
from edgewright.task import ImageSplit, load_task

SHARED = Path(os.environ.get("EDGEWRIGHT_SHARED",
                             Path(__file__).parents[2].parent / "shared")) / "data" / "cifar10"


def encoded(pixels: Any, kind: str = "PNG") -> Any:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def images(count: int, seed: int, shape: tuple[int, ...] = (6, 5, 3)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def table(pixels: Any, labels: Any, image: str = "picture", label: str = "answer") -> Any:
    return pa.table({image: [{"bytes": encoded(p), "path": None} for p in pixels], label: labels})


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    pq.write_table(table(images(12, 0), [i % 3 for i in range(12)]),
                   tmp_path / "train-00000-of-00002.parquet")
    pq.write_table(table(images(8, 1), [i % 3 for i in range(8)]),
                   tmp_path / "train-00001-of-00002.parquet")
    pq.write_table(table(images(4, 2), [0, 1, 2, 0]), tmp_path / "test-00000-of-00001.parquet")
    return tmp_path


def everything(split: Any) -> tuple[Any, ...]:
    batches = list(split.batches(3))
    return torch.cat([b.inputs[0] for b in batches]), torch.cat([b.targets for b in batches])


def test_digits_splits_are_stratified_and_disjoint() -> None:
    task, other = load_task("digits"), load_task("digits", seed=1)
    sizes = [len(split) for split in (task.train, task.val, task.test)]
    assert sizes == [1077, 270, 450]
    assert task.classes == tuple("0123456789")
    rows = [set(split._indices.tolist()) for split in (task.train, task.val, task.test)]
    assert set.union(*rows) == set(range(1797))
    assert rows[1] != set(other.val._indices.tolist())
    assert rows[2] == set(other.test._indices.tolist())
    for split in (task.train, task.val, task.test):
        share = torch.bincount(everything(split)[1]) / len(split)
        assert float((share - 0.1).abs().max()) < 0.02


def test_digits_are_normalized_by_the_training_split() -> None:
    task = load_task("digits")
    inputs, targets = everything(task.train)
    assert inputs.shape == (1077, 1, 8, 8)
    assert float(inputs.double().mean()) == pytest.approx(0, abs=1e-6)
    assert float(inputs.double().std()) == pytest.approx(1, abs=1e-3)
    bunch, row = load_digits(), int(task.train._indices[0])
    assert isinstance(task.preprocessing, Preprocessing)
    pixels = inputs[0, 0] * task.preprocessing.std[0] + task.preprocessing.mean[0]
    np.testing.assert_allclose(pixels * 16, bunch.images[row], atol=1e-4)
    assert int(targets[0]) == bunch.target[row]
    assert isinstance(task.train, ImageSplit)
    assert not task.train._flip


def test_a_parquet_folder_is_read_with_any_column_names(folder: Any) -> None:
    task = load_task(f"parquet:{folder}", normalize="0,0,0,1,1,1")
    assert (len(task.train), len(task.val), len(task.test)) == (18, 2, 4)
    assert task.name == folder.name
    assert task.classes is None
    inputs, targets = everything(task.test)
    expected = torch.from_numpy(images(4, 2)).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1e-6)
    assert targets.tolist() == [0, 1, 2, 0]


def test_by_default_the_training_split_has_mean_0_and_std_1(folder: Any) -> None:
    task = load_task(f"parquet:{folder}")
    inputs, _ = everything(task.train)
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(inputs.var((0, 2, 3), correction=0), torch.ones(3))


def test_images_are_decoded_once_and_only_when_used(folder: Any,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    module = importlib.import_module("edgewright.task._encoded_images")
    original = module.open_image

    def opened(file: Any, where: Any) -> Any:
        seen.append(where)
        return original(file, where)

    monkeypatch.setattr(module, "open_image", opened)
    task = load_task(f"parquet:{folder}", normalize="imagenet")
    seen.clear()
    task.train.example(2)
    assert len(seen) == 2
    everything(task.train)
    everything(task.train)
    assert len(seen) == 18


def test_a_validation_split_is_used_and_stands_in_for_a_missing_test_split(folder: Any) -> None:
    pq.write_table(table(images(5, 3), [0] * 5), folder / "validation.parquet")
    task = load_task(f"parquet:{folder}")
    assert (len(task.train), len(task.val), len(task.test)) == (20, 5, 4)
    (folder / "test-00000-of-00001.parquet").unlink()
    task = load_task(f"parquet:{folder}")
    assert (len(task.train), len(task.val), len(task.test)) == (18, 2, 5)


def test_splits_may_be_named_by_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        pq.write_table(table(images(4, 0), [0, 1, 0, 1]), tmp_path / split / "0.parquet")
    assert len(load_task(f"parquet:{tmp_path}").test) == 4


def test_images_of_another_size_and_mode_follow_the_first(tmp_path: Path) -> None:
    pixels = images(3, 0, (6, 5))
    large = np.asarray(Image.fromarray(images(1, 1, (12, 10, 3))[0]))
    rows = [{"bytes": encoded(p), "path": None} for p in (*pixels, large)]
    for split in ("train", "test"):
        pq.write_table(pa.table({"image": rows, "label": [0, 1, 0, 1]}),
                       tmp_path / f"{split}.parquet")
    task = load_task(f"parquet:{tmp_path}", normalize="0,1")
    expected = np.asarray(Image.fromarray(large).convert("L").resize((5, 6), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(everything(task.test)[0][3, 0] * 255, expected, atol=1e-3)
    assert isinstance(task.preprocessing, Preprocessing)
    assert task.preprocessing.resample == "bilinear"


def test_large_images_decode_in_threads_to_the_same_pixels(tmp_path: Path) -> None:
    pixels = images(4, 0, (100, 120, 3))
    for split in ("train", "test"):
        pq.write_table(table(pixels, [0, 1, 0, 1]), tmp_path / f"{split}.parquet")
    found = everything(load_task(f"parquet:{tmp_path}", normalize="0,0,0,1,1,1").test)[0]
    np.testing.assert_allclose(found, pixels.transpose(0, 3, 1, 2) / 255, atol=1e-6)


def test_class_names_come_from_the_hugging_face_metadata(tmp_path: Path) -> None:
    features = datasets.Features(img=datasets.Image(), fine=datasets.ClassLabel(names=["a", "b"]),
                                 other=datasets.Value("int64"))
    for split in ("train", "test"):
        rows = [{"img": {"bytes": encoded(p), "path": None}, "fine": i % 2, "other": 7}
                for i, p in enumerate(images(4, 0))]
        datasets.Dataset.from_list(rows, features=features).to_parquet(
            tmp_path / f"{split}.parquet")
    task = load_task(f"cifar10:{tmp_path}")
    assert task.classes == ("a", "b")
    assert task.name == "cifar10"


def rewrite(folder: Path, split: Any, content: Any) -> None:
    pq.write_table(content, folder / f"{split}-00000-of-00001.parquet")


@pytest.mark.parametrize(("content", "message"), [
    (pa.table({"a": [1], "b": [2], "i": [b"x"]}), r"2 columns could be the label; .* found: "
                                                  r"a \(int64\), b \(int64\), i \(binary\)"),
    (pa.table({"label": [1], "i": ["x"]}), "no column could be the image"),
    (pa.table({"label": ["cat"], "i": [b"x"]}), "no column could be the label"),
    (pa.table({"label": pa.array([None], pa.int64()), "i": [b"x"]}), "holds 1 empty labels"),
    (pa.table({"label": [0], "i": pa.array([None], pa.binary())}), "row 0, column 'i' is empty"),
    (pa.table({"label": pa.array([], pa.int64()), "i": pa.array([], pa.binary())}),
     "the test split of .* is empty"),
    (table(images(2, 0), [0, -1]), "sample 1 of the test split has label -1"),
])
def test_a_table_that_cannot_be_used_is_described(folder: Any, content: Any, message: str) -> None:
    rewrite(folder, "test", content)
    with pytest.raises(DataError, match=message):
        load_task(f"parquet:{folder}")


def test_a_corrupt_image_is_named_in_the_error(folder: Any) -> None:
    broken = table(images(3, 0), [0, 1, 2])
    rows = broken.column("picture").to_pylist()
    rows[1] = {"bytes": rows[1]["bytes"][:60], "path": "b.png"}
    rewrite(folder, "test", pa.table({"picture": rows, "answer": [0, 1, 2]}))
    task = load_task(f"parquet:{folder}", normalize="imagenet")
    with pytest.raises(DataError, match=r"sample 1 of the test split \(b.png\) cannot be read as an image"):
        list(task.test.batches(3))


def test_sixteen_bit_images_are_refused(folder: Any) -> None:
    deep = encoded(np.full((6, 5), 3000, dtype=np.uint16))
    rewrite(folder, "test", pa.table({"picture": [deep], "answer": [0]}))
    task = load_task(f"parquet:{folder}", normalize="imagenet")
    with pytest.raises(DataError, match="sample 0 of the test split has more than 8 bits"):
        list(task.test.batches(3))


def test_invalid_folders_are_named_in_the_error(folder: Any,
                                                tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match=r"no parquet file of a split in .*empty"):
        load_task(f"parquet:{empty}")
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        load_task(f"cifar10:{empty}/nowhere")
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        load_task(f"imagefolder:{empty}/nowhere")
    (folder / "train-00001-of-00002.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet cannot be read as a parquet file"):
        load_task(f"parquet:{folder}")


def test_parquet_files_with_different_columns_raise(folder: Any) -> None:
    pq.write_table(table(images(2, 0), [0, 1], label="other"),
                   folder / "train-00001-of-00002.parquet")
    with pytest.raises(DataError, match=r"has other columns than .*train-00000"):
        load_task(f"parquet:{folder}")


def test_a_dataset_without_a_test_split_is_refused(folder: Any) -> None:
    (folder / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="has the splits train; expected train, and test"):
        load_task(f"parquet:{folder}")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("own_cache")
def test_an_image_folder_is_read_by_class(tmp_path: Path) -> None:
    for split, count in (("train", 10), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number, pixels in enumerate(images(count, label)):
                (tmp_path / "data" / split / name / f"{number}.png").write_bytes(encoded(pixels))
    task = load_task(f"imagefolder:{tmp_path / 'data'}", normalize="0,0,0,1,1,1")
    assert task.classes == ("cat", "dog")
    assert (len(task.train), len(task.val), len(task.test)) == (18, 2, 4)
    inputs, targets = everything(task.test)
    assert targets.tolist() == [0, 0, 1, 1]
    expected = np.concatenate([images(2, 0), images(2, 1)]).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(inputs, expected, atol=1e-6)


@pytest.mark.usefixtures("own_cache")
def test_an_empty_image_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"cannot read image folder .*data"):
        load_task(f"imagefolder:{tmp_path / 'data'}")


def test_hub_datasets_load_by_name_and_config(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a"]))
    rows = [{"image": {"bytes": encoded(p), "path": None}, "label": 0} for p in images(4, 0)]
    data = datasets.Dataset.from_list(rows, features=features)

    def loaded(*arguments: Any, **options: Any) -> dict[str, Any]:
        asked.append((arguments, options))
        return {"train": data, "validation": data, "unsupervised": data}

    monkeypatch.setattr(datasets, "load_dataset", loaded)
    task = load_task("hf:someone/pets:small")
    assert asked == [(("someone/pets", "small"), {"data_dir": None})]
    assert task.name == "someone/pets"
    assert task.classes == ("a",)
    assert (len(task.train), len(task.val), len(task.test)) == (3, 1, 4)
    load_task("cifar10")
    assert asked[1][0] == ("uoft-cs/cifar10", None)


@pytest.mark.parametrize(("raised", "message"), [
    (ConnectionError("no route"), "cannot reach the hub for dataset 'uoft-cs/cifar10' of the "
                                  "Hugging Face hub: no route. Without a network, download it"),
    (datasets.exceptions.DatasetNotFoundError("gone"), "cannot read dataset 'uoft-cs/cifar10'"),
    (ValueError("Config name is missing"), "Config name is missing"),
])
def test_hub_errors_are_explained(monkeypatch: pytest.MonkeyPatch, raised: Any,
                                  message: str) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=message):
        load_task("cifar10")


def test_a_factory_makes_the_task(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("SIZE = 12\n")
    (tmp_path / "data.py").write_text(
        "import torch\nfrom beside import SIZE\nfrom edgewright.task import Task\n"
        "def make():\n    pair = torch.zeros(SIZE, 2), torch.zeros(SIZE, dtype=torch.long)\n"
        "    return Task(pair, test=pair, name='mine')\n"
        "def wrong():\n    return 3\n")
    assert load_task(f"{tmp_path / 'data.py'}:make").name == "mine"
    with pytest.raises(DataError, match=r"data.py:wrong returned a int; expected a Task"):
        load_task(f"{tmp_path / 'data.py'}:wrong")
    with pytest.raises(UsageError, match="normalize='imagenet' cannot be applied to"):
        load_task(f"{tmp_path / 'data.py'}:make", normalize="imagenet")


@pytest.mark.parametrize("ref", ["digit", "parquet:", "hf:", "imagefolder:", "", "digits:", "a b:c"])
def test_an_unknown_reference_lists_the_known_ones(ref: str) -> None:
    with pytest.raises(UsageError, match="is not a data reference; expected digits, cifar10"):
        load_task(ref)


@pytest.mark.parametrize(("package", "ref", "extra"), [
    ("sklearn.datasets", "digits", "compress"), ("datasets", "hf:x", "compress")])
def test_a_missing_library_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch, package: str,
                                                      ref: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'edgewright\[{extra}\]'"):
        load_task(ref)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no CIFAR-10 in {SHARED}")
def test_cifar10_is_read_from_a_folder() -> None:
    task = load_task(f"cifar10:{SHARED}", normalize="imagenet")
    assert (len(task.train), len(task.val), len(task.test)) == (45000, 5000, 10000)
    assert task.classes is not None
    assert task.classes[:2] == ("airplane", "automobile")
    assert isinstance(task.test, ImageSplit)
    inputs, targets = everything(task.test.sample(300))
    assert inputs.shape == (300, 3, 32, 32)
    assert set(targets.tolist()) == set(range(10))
    other = load_task(f"cifar10:{SHARED}", normalize="imagenet", seed=1)
    assert not torch.equal(task.val._indices, other.val._indices)
