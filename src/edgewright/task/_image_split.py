"""A split of uint8 images that are normalized batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.core import Preprocessing
from edgewright.errors import DataError
from edgewright.task._arrays import as_targets
from edgewright.task._augment import augment_batch
from edgewright.task._prefetch import prefetch
from edgewright.task._split import Batch, Split, bytes_of
from edgewright.task._targets import select_rows, target_lengths, target_tensors
from edgewright.task._view import AugmentationPolicy, View

_HASH_CHUNK: Final = 1024  # images hashed at a time


class Images(Protocol):
    """Images of one size, accessed by row; `EncodedImages` decodes them on first access."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Count, channels, height, width."""

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these rows, (len(indices), C, H, W)."""

    def stored_bytes(self, indices: NDArray[np.int64]) -> Iterator[bytes | memoryview]:
        """The stored bytes that determine the images at these rows, for a digest."""


@final
class ImageSplit(Split):
    """Images as uint8 (N, C, H, W), normalized per batch with the same formula as in the bundle.

    The next batch is prepared in a background thread. Images whose targets are about positions in
    them, such as the class of each pixel, are not augmented, because the targets would not follow.

    Args:
        images: A uint8 tensor, or an object that yields images by row.
        targets: The target of each image: class indices (N,), or whatever the task's goal takes.
        preprocessing: Converts the bytes to the model's input.
        flip: Whether augmentation may mirror an image; leave it off for digits and letters.
        name: Name used in error messages.

    Raises:
        DataError: The images are not uint8 (N, C, H, W) of the preprocessing's size, or the
            targets differ in length.

    Example:
        >>> import torch
        >>> recipe = Preprocessing(channels=1, height=2, width=2, mean=(0.5,), std=(0.5,))
        >>> images = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
        >>> split = ImageSplit(images, torch.tensor([0, 1, 2]), recipe)
        >>> split.example()[0].flatten().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, images: Tensor | Images, targets: Any, preprocessing: Preprocessing, *,
                 flip: bool = True, name: str = "data") -> None:
        self.preprocessing = preprocessing
        self._images = TensorImages(images, name) if isinstance(images, Tensor) else images
        _check_shape(self._images.shape, preprocessing, name)
        targets = as_targets(targets, name)
        for count, _ in target_lengths(targets):
            _check_length(self._images.shape[0], count, name)
        super().__init__(name, self._images.shape[0], targets)
        self._flip = flip

    @property
    def variation(self) -> str:
        """The supported policies, and whether images are mirrored."""
        if not self._is_augmented:
            return "none"
        return f"{super().variation}, mirrored" if self._flip else super().variation

    @property
    def augmentation_policies(self) -> frozenset[AugmentationPolicy]:
        """All, unless the targets are about positions in the image."""
        if self._is_augmented:
            return frozenset({"standard", "rand_augment"})
        return super().augmentation_policies

    def input_signature(self) -> tuple[str, ...]:
        """Dtype and shape of an image, without decoding one."""
        recipe = self.preprocessing
        return (f"float32 {(recipe.channels, recipe.height, recipe.width)}",)

    def _contents(self) -> Iterator[bytes | memoryview]:
        yield self.preprocessing.model_dump_json().encode()
        yield from map(bytes_of, target_tensors(self.targets()))
        yield from self._images.stored_bytes(self._indices.numpy())

    def _stream(self, chunks: Sequence[Tensor], view: View | None) -> Iterator[Batch]:
        def batch(chunk: Tensor) -> Batch:
            rows = self._indices[chunk]
            pixels = self._images.rows(rows.numpy())
            if view is not None and self._is_augmented:
                pixels = augment_batch(pixels, rows.numpy(), view, flip=self._flip)
            inputs = torch.from_numpy(self.preprocessing.normalize(pixels))
            return Batch((inputs,), select_rows(self._targets, rows), rows, view)

        return prefetch(batch, chunks)


@final
class TensorImages:
    """Adapts a uint8 tensor (N, C, H, W) to `Images`, sharing its memory."""

    def __init__(self, images: Tensor, name: str) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            dtype = str(images.dtype).removeprefix("torch.")
            raise DataError(f"the images of the {name} split are {dtype} of shape "
                            f"{tuple(images.shape)}; expected uint8 of shape (N, C, H, W)")
        self._pixels: NDArray[np.uint8] = images.contiguous().cpu().numpy()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Count, channels, height, width."""
        count, channels, height, width = self._pixels.shape
        return count, channels, height, width

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these rows, (len(indices), C, H, W)."""
        return self._pixels[indices]

    def stored_bytes(self, indices: NDArray[np.int64]) -> Iterator[bytes | memoryview]:
        """The pixels, in chunks of images."""
        for start in range(0, len(indices), _HASH_CHUNK):
            yield self._pixels[indices[start:start + _HASH_CHUNK]].reshape(-1).data


def _check_shape(shape: tuple[int, int, int, int], expected: Preprocessing, name: str) -> None:
    size = (expected.channels, expected.height, expected.width)
    if shape[1:] != size:
        raise DataError(f"the images of the {name} split are {shape[1:]} (channels, height, "
                        f"width), but the preprocessing is for {size}")


def _check_length(images: int, targets: int, name: str) -> None:
    if images != targets:
        raise DataError(f"the {name} split has {images} images but {targets} targets; their "
                        "lengths must be equal")
