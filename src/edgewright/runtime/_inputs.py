"""A session's inputs: checking arrays against the model, and reading them from files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core import (
    AudioPreprocessing,
    ModelSpec,
    Preprocessing,
    TensorSpec,
    check_equal_sizes,
    find_wrong_size,
    format_shape,
    read_pixels,
)
from edgewright.errors import DataError
from edgewright.runtime._finite import check_finite
from edgewright.runtime._pictures import Picture, describe_source, is_picture, open_picture
from edgewright.runtime._recordings import Recording, is_recording, read_recording
from edgewright.runtime.engines import Arrays

_IMAGE_CHANNELS = (1, 3)
_FREE = (None,)


def check_inputs(specs: Sequence[TensorSpec], inputs: Sequence[Any]) -> int:
    """Reject arrays that do not match the model's inputs; returns the batch size, 1 if fixed."""
    if len(inputs) != len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise DataError(f"the model takes {len(specs)} inputs ({names}), got {len(inputs)}")
    found = {_check_input(spec, array) for spec, array in zip(specs, inputs, strict=True)}
    batches = [size for size in found if size is not None]
    if len(batches) > 1:
        raise DataError(f"the inputs have different batch sizes: {sorted(batches)}; give the same "
                        "number of samples in each")
    if len(specs) > 1:
        check_equal_sizes([spec.name for spec in specs], [array.shape for array in inputs],
                          [spec.shape for spec in specs])
    return batches[0] if batches else 1


_dtype = cache(np.dtype)


def _check_input(spec: TensorSpec, array: object) -> int | None:
    """The batch size; None if it is fixed."""
    if not isinstance(array, np.ndarray):
        raise DataError(f"input {spec.name!r} is a {type(array).__name__}, expected a numpy array; "
                        "use numpy.asarray")
    if array.dtype != _dtype(spec.dtype):
        raise DataError(f"input {spec.name!r} is {array.dtype}, expected {spec.dtype}; use "
                        f".astype({spec.dtype!r}) if the values are meant to be {spec.dtype}")
    shape, wanted = array.shape, spec.shape
    free = wanted[:1] == _FREE
    if len(shape) != len(wanted) or not (shape[free:] == wanted[free:]
                                         or find_wrong_size(shape, wanted) is None):
        raise DataError(f"input {spec.name!r} has shape {shape}, expected {format_shape(wanted)}")
    if not array.size:
        raise DataError(f"input {spec.name!r} is empty (shape {shape}); give at least one sample")
    return shape[0] if free else None


def read_input(source: Picture | Recording, model: ModelSpec) -> Arrays:
    """Read a file or a picture as the model's inputs.

    A ``.npy`` file is the only input of a model, already preprocessed, with or without the batch
    dimension; a ``.npz`` file has one array per input, by name; a ``.wav`` file is a recording and
    any other file an image, which the model's preprocessing converts to the input.

    Args:
        source: The file, a Pillow image, pixels (H, W) or (H, W, C) in uint8, or a waveform
            (samples,) or (samples, channels) in int16.
        model: As in `Session.model` and `Manifest.model`.

    Raises:
        DataError: The file cannot be read, contains NaN or infinity, or does not match the model.
        MissingExtraError: The file is an image and Pillow is not installed.

    Example:
        >>> import tempfile
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> model = ModelSpec(name="tiny", inputs=(spec,), outputs=(), segments=())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/sample.npy", np.array([1.0, 2.0]))
        ...     read_input(f"{folder}/sample.npy", model)
        (array([[1., 2.]], dtype=float32),)
    """
    if is_picture(source) or is_recording(source):
        arrays: Arrays = (_read_raw(source, model.preprocessing),)
    elif isinstance(source, str | os.PathLike):
        arrays = _read_arrays(Path(source), model.inputs)
    else:
        raise DataError(f"a {type(source).__name__} is no picture; expected a file, a Pillow "
                        "image, pixels (H, W, C) in uint8 or a waveform in int16")
    try:
        check_inputs(model.inputs, arrays)
        check_finite(model.inputs, arrays)
    except DataError as error:
        raise DataError(f"{describe_source(source)}: {error}") from error
    return arrays


def _read_raw(source: Picture | Recording, preprocessing: Preprocessing | AudioPreprocessing | None
              ) -> NDArray[np.float32]:
    """The input that the preprocessing makes of a recording or a picture."""
    is_sound = is_recording(source)
    if is_recording(source) and isinstance(preprocessing, AudioPreprocessing):
        return read_recording(source, preprocessing)
    if is_picture(source) and isinstance(preprocessing, Preprocessing):
        return read_image(source, preprocessing)
    wanted = "a .npy or .npz file of preprocessed values"
    if isinstance(preprocessing, AudioPreprocessing):
        wanted = "a .wav file, or " + wanted
    elif isinstance(preprocessing, Preprocessing):
        wanted = "an image, or " + wanted
    raise DataError(f"{describe_source(source)}: this bundle has no "
                    f"{'audio' if is_sound else 'image'} preprocessing; give {wanted}")


def read_image(picture: Picture, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Read an image as a model's input, float32 of shape (1, C, H, W).

    The image is rotated by its EXIF orientation, converted to grayscale or RGB, resized if its size
    differs, and normalized.

    Args:
        picture: An image file, a Pillow image, or pixels (H, W) or (H, W, C) in uint8. Pixels of
            the model's size and channels need no Pillow.
        preprocessing: As in `ModelSpec.preprocessing`.

    Raises:
        DataError: It cannot be read as an image with 8 bits per channel.
        MissingExtraError: Pillow is not installed.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> recipe = Preprocessing(channels=1, height=2, width=2, mean=(0.0,), std=(1.0,))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (4, 4), "white").save(f"{folder}/white.png")
        ...     read_image(f"{folder}/white.png", recipe).ravel().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    if preprocessing.channels not in _IMAGE_CHANNELS:
        raise DataError(f"{describe_source(picture)}: the model takes {preprocessing.channels} "
                        "channels, but an image has 1 or 3; give a .npy file")
    size = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if isinstance(picture, np.ndarray) and picture.shape == size:
        pixels = picture.transpose(2, 0, 1)
    else:
        pixels = _read_pixels(picture, preprocessing)
    return np.ascontiguousarray(preprocessing.normalize(pixels[None]))


def _read_pixels(picture: Picture, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The pixels as `read_pixels` gives them."""
    try:
        with open_picture(picture) as image:
            if image.mode.startswith(("I", "F")):  # converting would silently clip at 255
                raise ValueError(f"its mode is {image.mode}")
            return read_pixels(image, preprocessing.channels, preprocessing.height,
                               preprocessing.width, preprocessing.resample)
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{describe_source(picture)} cannot be read as an image: {reason}; give "
                        "an image with 8 bits per channel, such as a PNG or JPEG file") from error


def _read_arrays(path: Path, specs: Sequence[TensorSpec]) -> Arrays:
    if path.suffix.lower() == ".npz":
        return _read_npz(path, specs)
    return (_read_npy(path, specs),)


def _read_npy(path: Path, specs: Sequence[TensorSpec]) -> NDArray[Any]:
    array = _load(path)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is not a .npy file; write it with numpy.save")
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise DataError(f"{path} contains one array, but the model takes {len(specs)} inputs "
                        f"({names}); give a .npz file with these names")
    return _convert(array, specs[0])


def _read_npz(path: Path, specs: Sequence[TensorSpec]) -> Arrays:
    archive = _load(path)
    if isinstance(archive, np.ndarray):
        raise DataError(f"{path} is not a .npz file; write it with numpy.savez")
    names = [spec.name for spec in specs]
    if sorted(archive) != sorted(names):
        raise DataError(f"{path} contains {sorted(archive)}, but the model takes {sorted(names)}; "
                        "rename the arrays")
    return tuple(_convert(archive[spec.name], spec) for spec in specs)


def _load(path: Path) -> Any:
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}; write it with numpy.save or "
                        "numpy.savez") from error


def _convert(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Add a missing batch dimension, and convert floats to the input's precision."""
    if array.ndim == len(spec.shape) - 1:
        array = array[np.newaxis]
    both_float = array.dtype.kind == "f" and np.dtype(spec.dtype).kind == "f"
    with np.errstate(over="ignore"):
        return array.astype(spec.dtype) if both_float else array
