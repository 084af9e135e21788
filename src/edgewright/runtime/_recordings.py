"""Recordings as files: 16-bit PCM in a .wav file, which the standard library reads."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from edgewright.core import AudioPreprocessing
from edgewright.errors import DataError

RECORDING_SUFFIX: Final = ".wav"

_SAMPLE_BYTES: Final = 2


def is_recording(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a value is the path of a .wav file.

    Example:
        >>> is_recording("seven.wav"), is_recording("seven.png")
        (True, False)
    """
    return isinstance(value, str | os.PathLike) and Path(value).suffix.lower() == RECORDING_SUFFIX


def read_recording(path: str | os.PathLike[str],
                   preprocessing: AudioPreprocessing) -> NDArray[np.float32]:
    """Read a recording as a model's input, float32 of shape (1, 1, mels, frames).

    Args:
        path: A .wav file of 16-bit PCM; the mean of its channels is taken.
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
    if header.framerate != preprocessing.sample_rate:
        raise DataError(f"{path} has {header.framerate} samples per second, but the model takes "
                        f"{preprocessing.sample_rate}; convert the file to that rate")
    if not content or len(content) != header.nframes * header.nchannels * _SAMPLE_BYTES:
        raise DataError(f"{path} is {'cut off' if content else 'empty'}; record it again")
    channels = np.frombuffer(content, dtype="<i2").reshape(1, -1, header.nchannels)
    waveform = (channels.mean(axis=2) / 32768).astype(np.float32)
    return preprocessing.features(waveform)
