"""PNG and JPEG images that are decoded lazily and cached."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import read_pixels
from edgewright.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

_THREADED_PIXELS: Final = 96 * 96  # below this, decoding holds the interpreter's lock throughout
_GREY_MODES: Final = frozenset({"1", "L", "LA"})
_WIDE_MODES: Final = ("I", "F")
_ORIENTATION: Final = 0x0112  # EXIF's tag, and its values for an image rotated by 90 degrees
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})


class EncodedImage(NamedTuple):
    """An image file's content, or its path if the content is None."""

    content: bytes | None
    path: str | None


@final
class EncodedImages:
    """Images stored as encoded files; each is decoded on first access and cached as uint8.

    Images of another size are resized to the given one (Pillow, bilinear).

    Args:
        files: The images, in the order of the labels.
        size: Channels (1 or 3), height, width.
        name: Name of the split in error messages.
    """

    def __init__(self, files: Sequence[EncodedImage], size: tuple[int, int, int],
                 name: str) -> None:
        self._files = files
        self._name = name
        self._pixels: NDArray[np.uint8] = np.empty((len(files), *size), dtype=np.uint8)
        self._decoded = np.zeros(len(files), dtype=np.bool_)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Count, channels, height, width."""
        count, channels, height, width = self._pixels.shape
        return count, channels, height, width

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these rows, (len(indices), C, H, W), decoded if necessary.

        Raises:
            DataError: An image cannot be read; names the split, the row and the file.
        """
        missing = np.unique(indices[~self._decoded[indices]])
        if len(missing):
            self._decode(missing)
        return self._pixels[indices]

    def stored_bytes(self, indices: NDArray[np.int64]) -> Iterator[bytes | memoryview]:
        """The size that images are resized to, then the files' bytes; what a digest covers.

        Raises:
            DataError: A file cannot be read.
        """
        yield str(self.shape[1:]).encode()
        for row in indices.tolist():
            file = self._files[row]
            try:
                yield Path(file.path or "").read_bytes() if file.content is None else file.content
            except OSError as error:
                raise DataError(f"sample {row} of the {self._name} split ({file.path}) cannot be "
                                f"read: {error.strerror or error}") from error

    def _decode(self, rows: NDArray[np.int64]) -> None:
        _, _, height, width = self.shape
        if height * width < _THREADED_PIXELS:
            for row in rows:
                self._decode_row(row)
        else:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(self._decode_row, rows))

    def _decode_row(self, row: int) -> None:
        _, channels, height, width = self.shape
        image = open_image(self._files[row], f"sample {row} of the {self._name} split")
        self._pixels[row] = read_pixels(image, channels, height, width)
        self._decoded[row] = True


def image_size(file: EncodedImage, where: str) -> tuple[int, int, int]:
    """Channels (1 for grayscale, else 3), height and width of one image.

    Raises:
        DataError: It cannot be read, or has more than 8 bits per channel.
    """
    image = open_image(file, where)
    exif = image.getexif()
    sideways = exif.get(_ORIENTATION, 1) in _SIDEWAYS
    height, width = (image.width, image.height) if sideways else (image.height, image.width)
    return (1 if image.mode in _GREY_MODES else 3), height, width


def open_image(file: EncodedImage, where: str) -> Image:
    """Decode one file.

    Raises:
        DataError: It is not an image, truncated, missing, or has more than 8 bits per channel.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image as pillow  # noqa: PLC0415, N813 - optional, and named as a module
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading images", "image") from error
    try:
        if file.content is not None:
            image = pillow.open(io.BytesIO(file.content))
        else:
            image = pillow.open(Path(file.path or ""))
        image.load()
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        named = f" ({file.path})" if file.path else ""
        raise DataError(f"{where}{named} cannot be read as an image: {error}") from error
    if image.mode.startswith(_WIDE_MODES):
        raise DataError(f"{where} has more than 8 bits per channel (Pillow mode {image.mode}); "
                        "convert it to 8 bits")
    return image
