"""What a session takes: arrays as the manifest says, or files turned into such arrays."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core import Manifest, Preprocessing, TensorSpec, image_pixels
from edgewright.errors import DataError, MissingExtraError
from edgewright.runtime._finite import check_finite
from edgewright.runtime.engines import Arrays

_IMAGE_CHANNELS = (1, 3)
_FREE = (None,)


def check_inputs(specs: Sequence[TensorSpec], inputs: Sequence[object]) -> int:
    """Refuse arrays that the model does not take; the batch size, 1 where it is not free."""
    if len(inputs) != len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise DataError(f"the model takes {len(specs)} inputs ({names}), got {len(inputs)}")
    found = {_check_input(spec, array) for spec, array in zip(specs, inputs, strict=True)}
    batches = [size for size in found if size is not None]
    if len(batches) > 1:
        raise DataError(f"the inputs have different batch sizes: {sorted(batches)}; give as many "
                        "samples in each")
    return batches[0] if batches else 1


_dtype = cache(np.dtype)


def _check_input(spec: TensorSpec, array: object) -> int | None:
    """The batch size; None where it is not free."""
    if not isinstance(array, np.ndarray):
        raise DataError(f"input {spec.name!r} is a {type(array).__name__}, expected a numpy array; "
                        "use numpy.asarray")
    if array.dtype != _dtype(spec.dtype):
        raise DataError(f"input {spec.name!r} is {array.dtype}, expected {spec.dtype}; use "
                        f".astype({spec.dtype!r}) if the values are meant so")
    shape, wanted = array.shape, spec.shape
    free = wanted[:1] == _FREE
    if len(shape) != len(wanted) or not (shape[free:] == wanted[free:] or _fits(shape, wanted)):
        raise DataError(f"input {spec.name!r} has shape {shape}, expected {shape_text(spec)}")
    if not array.size:
        raise DataError(f"input {spec.name!r} is empty (shape {shape}); give at least one sample")
    return shape[0] if free else None


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return all(want is None or have == want for have, want in zip(shape, wanted, strict=True))


def shape_text(spec: TensorSpec) -> str:
    """The shape as people write it, ``(N, 3, 32, 32)``."""
    sizes = ["N" if size is None else str(size) for size in spec.shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def read_input(path: str | os.PathLike[str], manifest: Manifest) -> Arrays:
    """Read a file as the model's inputs.

    A ``.npy`` file is the one input of a model, already preprocessed, with or without the batch
    dimension; a ``.npz`` file holds several by their names in the manifest; any other file is an
    image, which the manifest's preprocessing turns into the input.

    Raises:
        DataError: The file cannot be read, holds NaN or infinity, or does not fit the model.
        MissingExtraError: An image is given and Pillow is not installed.

    Example:
        >>> import tempfile
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> manifest = Manifest.model_construct(inputs=(spec,))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/sample.npy", np.array([1.0, 2.0]))
        ...     read_input(f"{folder}/sample.npy", manifest)
        (array([[1., 2.]], dtype=float32),)
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        arrays: Arrays = (_read_npy(path, manifest.inputs),)
    elif suffix == ".npz":
        arrays = _read_npz(path, manifest.inputs)
    elif manifest.preprocessing is None:
        raise DataError(f"{path}: this bundle does not say how an image becomes an input; give a "
                        ".npy or .npz file of preprocessed values")
    else:
        arrays = (read_image(path, manifest.preprocessing),)
    try:
        check_inputs(manifest.inputs, arrays)
        check_finite(manifest.inputs, arrays)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return arrays


def read_image(path: str | os.PathLike[str], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Read an image as a model's input, float32 of shape (1, C, H, W).

    It is turned upright as its EXIF record says, made grey or RGB, resized where its size
    differs, and normalised.

    Raises:
        DataError: The file cannot be read as an image of 8 bits a channel.
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
    try:
        from PIL import Image  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading an image", "image") from error
    if preprocessing.channels not in _IMAGE_CHANNELS:
        raise DataError(f"{path}: the model takes {preprocessing.channels} channels, and an image "
                        "gives 1 or 3; give a .npy file")
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # converting would clip at 255 unseen
                raise ValueError(f"its mode is {image.mode}")
            pixels = image_pixels(image, preprocessing.channels, preprocessing.height,
                                  preprocessing.width, preprocessing.resample)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read as an image: {reason}; give an image of 8 bits a "
                        "channel, such as a PNG or JPEG file") from error
    return np.ascontiguousarray(preprocessing.normalize(pixels[None]))


def _read_npy(path: Path, specs: Sequence[TensorSpec]) -> NDArray[Any]:
    array = _load(path)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is not a .npy file; write it with numpy.save")
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise DataError(f"{path} holds one array, but the model takes {len(specs)} inputs "
                        f"({names}); give a .npz file with these names")
    return _fitted(array, specs[0])


def _read_npz(path: Path, specs: Sequence[TensorSpec]) -> Arrays:
    archive = _load(path)
    if isinstance(archive, np.ndarray):
        raise DataError(f"{path} is not a .npz file; write it with numpy.savez")
    names = [spec.name for spec in specs]
    if sorted(archive) != sorted(names):
        raise DataError(f"{path} holds {sorted(archive)}, but the model takes {sorted(names)}; "
                        "name the arrays so")
    return tuple(_fitted(archive[spec.name], spec) for spec in specs)


def _load(path: Path) -> Any:
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}; write it with numpy.save or "
                        "numpy.savez") from error


def _fitted(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Add the batch dimension where it is missing, and give floats the input's precision."""
    if array.ndim == len(spec.shape) - 1:
        array = array[np.newaxis]
    both_float = array.dtype.kind == "f" and np.dtype(spec.dtype).kind == "f"
    with np.errstate(over="ignore"):
        return array.astype(spec.dtype) if both_float else array
