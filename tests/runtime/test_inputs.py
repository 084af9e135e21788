"""Files as inputs: images, .npy, .npz, and everything that can be wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgewright.core import ModelSpec, Preprocessing, TensorSpec
from edgewright.errors import DataError, MissingExtraError
from edgewright.runtime import read_image, read_input

RGB = Preprocessing(channels=3, height=4, width=6, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
GREY = Preprocessing(channels=1, height=4, width=6, mean=(0.0,), std=(1.0,))
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def _model(*specs: TensorSpec, preprocessing: Preprocessing | None = None) -> ModelSpec:
    return ModelSpec(name="m", inputs=specs, outputs=(), segments=(), preprocessing=preprocessing)


ONE = _model(TensorSpec(name="x", dtype="float32", shape=(None, 2)))
TWO = _model(TensorSpec(name="a", dtype="float32", shape=(None, 2)),
                TensorSpec(name="b", dtype="int64", shape=(None,)))
IMAGE = _model(TensorSpec(name="x", dtype="float32", shape=(None, 3, 4, 6)), preprocessing=RGB)


def test_image_is_normalised_channel_by_channel(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", RGB)
    assert found.shape == (1, 3, 4, 6)
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    for channel in range(3):
        expected = (PIXELS[:, :, channel] / 255 - RGB.mean[channel]) / RGB.std[channel]
        np.testing.assert_allclose(found[0, channel], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK", "LA"])
def test_any_8_bit_image_becomes_what_the_model_takes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tiff"
    Image.fromarray(PIXELS).convert(mode).save(path)
    assert read_image(path, RGB).shape == (1, 3, 4, 6)
    assert read_image(path, GREY).shape == (1, 1, 4, 6)


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic"])
def test_image_of_another_size_is_resized_as_the_manifest_says(tmp_path: Path,
                                                               resample: str) -> None:
    big = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 13), dtype=np.uint8))
    big.save(tmp_path / "big.png")
    recipe = GREY.replace(resample=resample)
    expected = np.asarray(big.resize((6, 4), getattr(Image.Resampling, resample.upper())))
    np.testing.assert_allclose(read_image(tmp_path / "big.png", recipe)[0, 0], expected / 255,
                               atol=1e-6)


def test_image_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3   # upside down
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(PIXELS[::-1, ::-1].copy()).save(tmp_path / "upright.png")
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png", RGB),
                                  read_image(tmp_path / "upright.png", RGB))


def test_16_bit_image_is_refused_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 1000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"its mode is I.*8 bits per channel"):
        read_image(tmp_path / "deep.png", GREY)


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_file_that_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(path, RGB)


def test_image_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    whole = path.read_bytes()
    for size in range(1, len(whole) - 20, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="cannot be read as an image"):
            read_image(path, RGB)


def test_image_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png cannot be read as an image: No such file"):
        read_image(tmp_path / "none.png", RGB)


def test_image_for_a_model_of_other_channels(tmp_path: Path) -> None:
    recipe = Preprocessing(channels=4, height=1, width=1, mean=(0.0,) * 4, std=(1.0,) * 4)
    with pytest.raises(DataError, match="takes 4 channels"):
        read_image(tmp_path / "a.png", recipe)


def test_image_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"reading an image.*'edgewright\[image\]'"):
        read_image(tmp_path / "a.png", RGB)


def test_read_input_takes_an_image(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (found,) = read_input(tmp_path / "a.png", IMAGE)
    np.testing.assert_array_equal(found, read_image(tmp_path / "a.png", RGB))


def test_image_for_a_bundle_without_preprocessing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no image preprocessing"):
        read_input(tmp_path / "a.png", ONE)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("values", [[1.0, 2.0], [[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]])
def test_npy_gets_its_batch_dimension_and_precision(tmp_path: Path,
                                                    values: list[float] | list[list[float]],
                                                    dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.array(values, dtype=dtype))
    (found,) = read_input(tmp_path / "a.npy", ONE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.atleast_2d(values))


def test_npz_is_read_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", b=np.array([5]), a=np.array([[1.0, 2.0]]))
    first, second = read_input(tmp_path / "a.npz", TWO)
    assert first.tolist() == [[1.0, 2.0]]
    assert second.tolist() == [5]


@pytest.mark.parametrize(("array", "message"), [
    (np.array([1.0, np.nan]), "contains NaN or infinite"), (np.array([1.0, np.inf]), "contains NaN"),
    (np.array([1.0, 1e300]), "contains NaN or infinite"),
    (np.array([1.0, 2.0, 3.0]), r"has shape \(1, 3\), expected \(N, 2\)"),
    (np.array([1, 2]), "is int64, expected float32"),
    (np.array([{}]), "cannot be read: Object arrays"),
])
def test_npy_that_does_not_fit(tmp_path: Path, array: Any, message: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message) as caught:
        read_input(tmp_path / "a.npy", ONE)
    assert str(tmp_path / "a.npy") in str(caught.value)


def test_npy_for_a_model_of_several_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(2))
    with pytest.raises(DataError, match=r"takes 2 inputs \(a, b\); give a .npz"):
        read_input(tmp_path / "a.npy", TWO)


def test_npz_with_other_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(2), c=np.ones(1))
    with pytest.raises(DataError, match=r"contains \['a', 'c'\], but the model takes \['a', 'b'\]"):
        read_input(tmp_path / "a.npz", TWO)


def test_npz_with_nan(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([[1.0, np.nan]]), b=np.array([5]))
    with pytest.raises(DataError, match="input 'a' contains NaN"):
        read_input(tmp_path / "a.npz", TWO)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04broken"])
def test_arrays_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} cannot be read: "):
        read_input(tmp_path / name, ONE)


def test_array_files_under_each_others_names(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.ones(2))
    np.savez(tmp_path / "archive.npz", x=np.ones(2))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    with pytest.raises(DataError, match=r"is not a \.npz file"):
        read_input(tmp_path / "array.npz", ONE)
    with pytest.raises(DataError, match=r"is not a \.npy file"):
        read_input(tmp_path / "archive.npy", ONE)
