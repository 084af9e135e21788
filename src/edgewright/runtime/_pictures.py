"""Pictures as a caller has them: a file, a Pillow image, or an array of pixels."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import MissingExtraError
from edgewright.runtime._recordings import RECORDING_SUFFIX, Recording, is_recording

if TYPE_CHECKING:
    from PIL.Image import Image

Picture: TypeAlias = "str | os.PathLike[str] | Image | NDArray[np.uint8]"

_OTHER_SUFFIXES: Final = (".npy", ".npz", RECORDING_SUFFIX)
_ORIENTATION: Final = 0x0112  # EXIF tag; from 5 on, the picture lies on its side


def is_picture(value: object) -> TypeGuard[Picture]:
    """Whether a value is an image file, a Pillow image, or pixels (H, W) or (H, W, C) in uint8.

    Example:
        >>> is_picture("cat.png"), is_picture("cat.npy"), is_picture(np.zeros((4, 4, 3), np.uint8))
        (True, False, True)
        >>> is_picture(np.zeros((4, 4, 3), np.float32))
        False
    """
    if isinstance(value, str | os.PathLike):
        return Path(value).suffix.lower() not in _OTHER_SUFFIXES
    return _is_pixels(value) or _is_image(value)


def describe_source(source: Picture | Recording) -> str:
    """A picture or a recording in a sentence: its path, "the picture" or "the waveform"."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return "the waveform" if is_recording(source) else "the picture"


@contextmanager
def open_picture(picture: Picture) -> Iterator[Image]:
    """The picture as a Pillow image; a file is closed afterwards.

    Raises:
        MissingExtraError: Pillow is not installed.
        OSError: The file cannot be read.
        ValueError: It has more pixels than Pillow allows.
    """
    try:
        from PIL import Image as pillow  # noqa: PLC0415, N813 - optional, and named as a module
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading an image", "image") from error
    if isinstance(picture, np.ndarray):
        yield pillow.fromarray(picture[:, :, 0] if picture.shape[2:] == (1,) else picture)
    elif isinstance(picture, pillow.Image):
        yield picture
    else:
        try:
            with pillow.open(picture) as image:
                yield image
        except pillow.DecompressionBombError as error:
            raise ValueError(str(error)) from error


def picture_size(picture: Picture) -> tuple[int, int]:
    """Width and height in pixels, after rotation by its EXIF orientation.

    Example:
        >>> picture_size(np.zeros((4, 6, 3), dtype=np.uint8))
        (6, 4)
    """
    if isinstance(picture, np.ndarray):
        return picture.shape[1], picture.shape[0]
    with open_picture(picture) as image:
        lies = image.getexif().get(_ORIENTATION, 1) >= 5
        return (image.height, image.width) if lies else (image.width, image.height)


def _is_pixels(value: Any) -> bool:
    return (isinstance(value, np.ndarray) and value.dtype == np.uint8
            and (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3, 4))))


def _is_image(value: object) -> bool:
    """Whether it is a Pillow image; there is none unless Pillow is loaded."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)
