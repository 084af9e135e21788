"""A split of recordings whose features are computed batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, final

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from edgewright.core import AudioPreprocessing
from edgewright.errors import DataError
from edgewright.task._arrays import as_targets, short_name
from edgewright.task._prefetch import prefetch
from edgewright.task._split import Batch, Split, bytes_of
from edgewright.task._split_checks import check_equal_lengths, check_finite
from edgewright.task._targets import select_rows, target_tensors
from edgewright.task._view import View

_SHIFT: Final = 0.1  # largest shift, as a share of the length
_HASH_CHUNK: Final = 1024  # recordings hashed at a time


@final
class AudioSplit(Split):
    """Recordings (N, samples) in memory, turned into the features that the bundle describes.

    The next batch is prepared in a background thread. Augmentation shifts every recording by up to
    a tenth of its length, earlier or later, as Warden (2018, Speech Commands, section 7.1) does,
    unless the targets are about positions in it.

    Args:
        waveforms: int16, or floating point from -1 to 1; int16 takes half the memory of float32.
        targets: The target of each recording: class indices (N,), or whatever the task's goal
            takes.
        preprocessing: Pads or cuts the recordings, and computes the model's input.
        name: Name used in error messages.

    Raises:
        DataError: The waveforms are of another type or shape or not finite, or the targets differ
            in length.

    Example:
        >>> recipe = AudioPreprocessing(sample_rate=8000, length=800, frame_length=256, hop=128,
        ...                             fft_size=256, mels=10)
        >>> split = AudioSplit(torch.zeros(3, 900), torch.tensor([0, 1, 2]), recipe)
        >>> split.example()[0].shape
        torch.Size([1, 1, 10, 5])
    """

    def __init__(self, waveforms: Tensor, targets: Any, preprocessing: AudioPreprocessing, *,
                 name: str = "data") -> None:
        if waveforms.ndim != 2 or not (waveforms.is_floating_point()
                                       or waveforms.dtype == torch.int16):
            raise DataError(f"the waveforms of the {name} split are {short_name(waveforms.dtype)} "
                            f"of shape {tuple(waveforms.shape)}; expected int16 or floating point "
                            "of shape (N, samples)")
        targets = as_targets(targets, name)
        check_equal_lengths((waveforms,), targets, name)
        check_finite((waveforms,), name)
        super().__init__(name, len(waveforms), targets)
        self.preprocessing = preprocessing
        kept = waveforms.float() if waveforms.is_floating_point() else waveforms
        self._waveforms: NDArray[Any] = kept.contiguous().cpu().numpy()

    @property
    def variation(self) -> str:
        """The supported policies, if recordings are shifted at all."""
        return super().variation if self._is_augmented else "none"

    def input_signature(self) -> tuple[str, ...]:
        """Dtype and shape of a recording's features, without computing them."""
        return (f"float32 {self.preprocessing.shape}",)

    def _contents(self) -> Iterator[bytes | memoryview]:
        yield self.preprocessing.model_dump_json().encode()
        yield f"{self._waveforms.dtype} {self._waveforms.shape[1]}".encode()
        yield from map(bytes_of, target_tensors(self.targets()))
        for rows in torch.split(self._indices, _HASH_CHUNK):
            yield self._waveforms[rows.numpy()].reshape(-1).view(np.uint8).data

    def _stream(self, chunks: Sequence[Tensor], view: View | None) -> Iterator[Batch]:
        def batch(chunk: Tensor) -> Batch:
            rows = self._indices[chunk]
            waveforms = self.preprocessing.fit_length(self._waveforms[rows.numpy()])
            if view is not None and self._is_augmented:
                waveforms = _shift(waveforms, rows.numpy(), view)
            inputs = torch.from_numpy(self.preprocessing.features(waveforms))
            return Batch((inputs,), select_rows(self._targets, rows), rows, view)

        return prefetch(batch, chunks)


def _shift(waveforms: NDArray[Any], rows: NDArray[np.int64], view: View) -> NDArray[Any]:
    """Shift every recording by an offset of its own, filled up with zeros."""
    count, length = waveforms.shape
    most = int(_SHIFT * length)
    starts = np.floor(view.random_uniform(rows, 1)[:, 0] * (2 * most + 1)).astype(np.int64)
    windows = sliding_window_view(np.pad(waveforms, ((0, 0), (most, most))), length, axis=1)
    shifted: NDArray[Any] = windows[np.arange(count), starts]
    return shifted
