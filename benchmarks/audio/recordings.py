"""The recordings of the Free Spoken Digit Dataset (Jakobovski/free-spoken-digit-dataset).

They are FLAC files, which soundfile decodes: pip install soundfile
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

import edgewright as ew

SAMPLE_RATE: Final = 8000
DIGITS: Final = tuple("0123456789")
SPEAKERS: Final = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
LOG_MEL: Final = ew.AudioPreprocessing(sample_rate=SAMPLE_RATE, length=6400, frame_length=256,
                                       hop=128, fft_size=256, mels=32, fmin=60)  # 0.8 s


class Recording(NamedTuple):
    """One spoken digit.

    Attributes:
        waveform: (samples,) int16, at 8 kHz.
        digit: 0 to 9.
        speaker: Index into `SPEAKERS`.
    """

    waveform: NDArray[np.int16]
    digit: int
    speaker: int


def read_recordings(folder: Path, split: str) -> list[Recording]:
    """The recordings of a split, ``train`` (2,700) or ``test`` (300), of the same six speakers."""
    rows = pq.read_table(next(folder.glob(f"{split}-*.parquet"))).to_pylist()
    return [Recording(_decode(row["audio"]["bytes"]), row["label"],
                      SPEAKERS.index(row["speaker"])) for row in rows]


def join_waveforms(recordings: Sequence[Recording],
                   features: ew.AudioPreprocessing = LOG_MEL) -> NDArray[np.int16]:
    """Waveforms (N, length), padded with zeros or cut to the length that the features are of."""
    return np.concatenate([features.fit_length(found.waveform[None]) for found in recordings])


def _decode(content: bytes) -> NDArray[np.int16]:
    try:
        import soundfile  # noqa: PLC0415 - not an extra of Edgewright
    except ImportError as error:
        raise SystemExit("the recordings are FLAC files; run: pip install soundfile") from error
    waveform: NDArray[np.int16]
    waveform, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    if waveform.ndim != 1 or rate != SAMPLE_RATE:
        raise SystemExit(f"a recording has shape {waveform.shape} and {rate} samples per second; "
                         f"expected one channel and {SAMPLE_RATE}")
    return waveform
