"""Recordings as callers have them: a .wav file of 16-bit PCM, or its samples in an array."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from edgewright.core import AudioPreprocessing
from edgewright.errors import DataError

RECORDING_SUFFIX: Final = ".wav"

_SAMPLE_BYTES: Final = 2


Recording: TypeAlias = "str | os.PathLike[str] | NDArray[np.int16]"


def is_recording(value: object) -> TypeGuard[Recording]:
    """Whether a value is a .wav file, or an int16 waveform (samples,) or (samples, channels).

    Example:
        >>> is_recording("seven.wav"), is_recording("seven.png")
        (True, False)
        >>> is_recording(np.zeros(800, dtype=np.int16)), is_recording(np.zeros(800))
        (True, False)
    """
    if isinstance(value, str | os.PathLike):
        return Path(value).suffix.lower() == RECORDING_SUFFIX
    return isinstance(value, np.ndarray) and value.dtype == np.int16 and value.ndim in (1, 2)


def read_recording(recording: Recording,
                   preprocessing: AudioPreprocessing) -> NDArray[np.float32]:
    """Read a recording as a model's input, float32 of shape (1, 1, mels, frames).

    Args:
        recording: A .wav file of 16-bit PCM, or its samples, int16 of shape (samples,) or
            (samples, channels), at the sample rate of the preprocessing. The mean of the channels
            is taken.
        preprocessing: As in `ModelSpec.preprocessing`; pads or cuts the recording.

    Raises:
        DataError: It cannot be read, or has another sample rate.

    Example:
        >>> import tempfile
        >>> recipe = AudioPreprocessing(sample_rate=8000, length=800, frame_length=256, hop=128,
        ...                             fft_size=256, mels=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with wave.open(f"{folder}/silence.wav", "wb") as file:
        ...         file.setparams((1, 2, 8000, 0, "NONE", ""))
        ...         file.writeframes(bytes(1600))
        ...     read_recording(f"{folder}/silence.wav", recipe).shape
        (1, 1, 10, 5)
    """
    samples: NDArray[Any]
    if isinstance(recording, np.ndarray):
        if not recording.size:
            raise DataError(f"the waveform is empty (shape {recording.shape}); record it again")
        samples = recording.reshape(len(recording), -1)
    else:
        samples = _read_wave(recording, preprocessing.sample_rate)
    waveform = (samples.mean(axis=1) / 32768).astype(np.float32)
    return preprocessing.features(waveform[None])


def _read_wave(path: str | os.PathLike[str], sample_rate: int) -> NDArray[np.int16]:
    """The samples of a .wav file, (samples, channels)."""
    try:
        with wave.open(os.fspath(path), "rb") as file:
            header = file.getparams()
            content = file.readframes(header.nframes)
    except (OSError, EOFError, wave.Error) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends too early"
        raise DataError(f"{path} cannot be read as a recording: {reason}; give a .wav file of "
                        "16-bit PCM") from error
    if header.sampwidth != _SAMPLE_BYTES:
        raise DataError(f"{path} has {8 * header.sampwidth} bits per sample; give a .wav file of "
                        "16-bit PCM")
    if header.framerate != sample_rate:
        raise DataError(f"{path} has {header.framerate} samples per second, but the model takes "
                        f"{sample_rate}; convert the file to that rate")
    if not content or len(content) != header.nframes * header.nchannels * _SAMPLE_BYTES:
        raise DataError(f"{path} is {'cut off' if content else 'empty'}; record it again")
    return np.frombuffer(content, dtype="<i2").reshape(-1, header.nchannels)
