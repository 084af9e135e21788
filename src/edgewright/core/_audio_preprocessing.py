"""How a recording becomes a model's input: log-mel features; part of the task and the bundle."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edgewright.core._settings import Settings
from edgewright.errors import DataError, UsageError

_INT16_SCALE: Final = 1 / 32768
_CHUNK: Final = 64  # recordings transformed at a time


class AudioPreprocessing(Settings):
    """Log-mel features of a recording: the energy in each mel band, frame by frame.

    The recording is padded with zeros or cut at its end to ``length`` samples. Frames begin at
    multiples of ``hop``; a frame that would pass the end is left out. Each is multiplied by a
    periodic Hann window, padded to ``fft_size`` and transformed; its power spectrum is summed by
    triangular filters of peak 1, whose corners are equally spaced on the mel scale of HTK,
    2595 log10(1 + f / 700) (Young et al., The HTK Book, 2006, section 5.4). The natural logarithm
    of the energies, at least ``floor``, is shifted by ``mean`` and divided by ``std``.

    Attributes:
        kind: Tells this preprocessing from that of images.
        sample_rate: Hertz.
        length: Samples per recording.
        frame_length: Samples per frame.
        hop: Samples from the beginning of a frame to that of the next.
        fft_size: Samples per Fourier transform, at least ``frame_length``.
        mels: Number of mel bands.
        fmin: Lowest frequency of the first band, in hertz.
        fmax: Highest frequency of the last band, in hertz; None is half the sample rate.
        floor: Least energy of a band, before the logarithm.
        mean: Subtracted from the logarithms.
        std: Divides them.

    Raises:
        UsageError: A number is out of its range, or a band is so narrow that it holds no frequency
            of the transform.

    Example:
        >>> recipe = AudioPreprocessing(sample_rate=8000, length=8000, frame_length=256, hop=128,
        ...                             fft_size=256, mels=20)
        >>> recipe.shape
        (1, 20, 61)
        >>> recipe.features(np.zeros((2, 5000), dtype=np.float32)).shape
        (2, 1, 20, 61)
    """

    kind: Literal["audio"] = "audio"
    sample_rate: int = Field(ge=1)
    length: int = Field(ge=1)
    frame_length: int = Field(ge=2)
    hop: int = Field(ge=1)
    fft_size: int = Field(ge=2, le=65536)
    mels: int = Field(ge=1, le=1024)
    fmin: float = 0.0
    fmax: float | None = None
    floor: float = 1e-6
    mean: float = 0.0
    std: float = 1.0

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        if not self.frame_length <= min(self.length, self.fft_size):
            raise UsageError(f"AudioPreprocessing has frames of {self.frame_length} samples, but "
                             f"recordings of {self.length} and a transform of {self.fft_size}; a "
                             "frame must fit into both")
        low, high = self._range
        if not 0 <= low < high <= self.sample_rate / 2:
            raise UsageError(f"AudioPreprocessing has bands from {low:g} to {high:g} Hz; give a "
                             f"range within 0 and half the sample rate, {self.sample_rate / 2:g}")
        if not (0 < self.floor < math.inf and 0 < self.std < math.inf and math.isfinite(self.mean)):
            raise UsageError("AudioPreprocessing needs a finite mean, and a floor and a deviation "
                             f"above 0, got mean={self.mean}, floor={self.floor}, std={self.std}")
        empty = np.flatnonzero(self._filters.max(axis=0) == 0)
        if empty.size:
            raise UsageError(f"mel band {empty[0]} of {self.mels} holds no frequency of a "
                             f"transform of {self.fft_size} samples; use fewer bands or "
                             "a larger fft_size")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the features of a recording: (1, mels, frames)."""
        return 1, self.mels, 1 + (self.length - self.frame_length) // self.hop

    def features(self, waveforms: NDArray[Any]) -> NDArray[np.float32]:
        """The features of recordings.

        Args:
            waveforms: (N, samples), any number of samples: float32 from -1 to 1, or int16, which
                is divided by 32,768.

        Returns:
            (N, 1, mels, frames).

        Raises:
            DataError: The waveforms are of another type or shape.
        """
        waveforms = self.fit_length(waveforms)
        found = np.empty((len(waveforms), *self.shape), dtype=np.float32)
        for start in range(0, len(waveforms), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            found[chunk, 0] = self._log_mel(waveforms[chunk]).transpose(0, 2, 1)
        return found

    def fit_length(self, waveforms: NDArray[Any]) -> NDArray[Any]:
        """Recordings (N, samples), padded with zeros or cut at the end to (N, length).

        Raises:
            DataError: The waveforms are neither int16 nor float32, or have another shape.

        Example:
            >>> recipe = AudioPreprocessing(sample_rate=100, length=4, frame_length=4, hop=4,
            ...                             fft_size=4, mels=1)
            >>> recipe.fit_length(np.ones((1, 2), dtype=np.int16)).tolist()
            [[1, 1, 0, 0]]
        """
        if waveforms.dtype not in (np.int16, np.float32) or waveforms.ndim != 2:
            raise DataError(f"the waveforms are {waveforms.dtype} of shape {waveforms.shape}; "
                            "expected int16 or float32 of shape (N, samples)")
        missing = self.length - waveforms.shape[1]
        return np.pad(waveforms, ((0, 0), (0, max(missing, 0))))[:, :self.length]

    def standardize(self, waveforms: NDArray[Any]) -> Self:
        """A copy with the ``mean`` and ``std`` of these recordings' features.

        Args:
            waveforms: Of the training data, as for `features`.
        """
        logs = self.replace(mean=0.0, std=1.0).features(waveforms)
        return self.replace(mean=float(logs.mean(dtype=np.float64)),
                            std=float(max(logs.std(dtype=np.float64), 1e-6)))

    def _log_mel(self, waveforms: NDArray[Any]) -> NDArray[np.float64]:
        """(N, frames, mels), in float64, so that every version of numpy gives the same features."""
        scale = _INT16_SCALE if waveforms.dtype == np.int16 else 1.0
        frames = sliding_window_view(waveforms, self.frame_length, axis=1)[:, ::self.hop]
        spectrum = np.fft.rfft(frames * (scale * _hann(self.frame_length)), self.fft_size)
        energies = (spectrum.real ** 2 + spectrum.imag ** 2) @ self._filters
        logs: NDArray[np.float64] = np.log(np.maximum(energies, self.floor))
        return (logs - self.mean) / self.std

    @property
    def _range(self) -> tuple[float, float]:
        return self.fmin, self.sample_rate / 2 if self.fmax is None else self.fmax

    @property
    def _filters(self) -> NDArray[np.float64]:
        return _mel_filters(self.sample_rate, self.fft_size, self.mels, self._range)


@cache
def _hann(size: int) -> NDArray[np.float64]:
    """The periodic Hann window."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return window


@cache
def _mel_filters(sample_rate: int, fft_size: int, mels: int,
                 limits: tuple[float, float]) -> NDArray[np.float64]:
    """Triangles of peak 1 over the transform's frequencies, (fft_size // 2 + 1, mels)."""
    low, high = (2595 * math.log10(1 + limit / 700) for limit in limits)
    corners = 700 * (10 ** (np.linspace(low, high, mels + 2) / 2595) - 1)
    frequencies = np.arange(fft_size // 2 + 1)[:, None] * (sample_rate / fft_size)
    left, peak, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (frequencies - left) / (peak - left), (right - frequencies) / (right - peak)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters
