"""Anomalies: voices that an autoencoder of MLPerf Tiny's shape was not trained on.

The network is MLPerf Tiny's for machine sounds (Banbury et al. 2021): 640 values to 8 and back
through four layers of 128 on each side. A sample is five frames of 128 log-mel bands (192 ms) of a
spoken digit. The training split holds the windows of one speaker's recordings; windows of the other
five speakers are the anomalies of the validation and test splits. One in five of the speaker's
training recordings is held out for validation, with as many of each other speaker; the test split
is the data set's. ``recording_auroc`` is of recordings, by the mean error of their windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from torch import nn

import edgewright as ew
from benchmarks.audio.recordings import (
    SAMPLE_RATE,
    SPEAKERS,
    Recording,
    join_waveforms,
    read_recordings,
)
from benchmarks.real_size.job import Job

NORMAL: Final = SPEAKERS.index("lucas")
FRAMES: Final = 5
_LOG_MEL: Final = ew.AudioPreprocessing(sample_rate=SAMPLE_RATE, length=SAMPLE_RATE, mels=128,
                                        frame_length=512, hop=256, fft_size=2048, fmin=60)
_HELD_OUT: Final = 5  # one in five
_CODE: Final = 8


def make_model() -> nn.Module:
    """Windows (N, 640) to their reconstruction."""
    sizes = (FRAMES * _LOG_MEL.mels, 128, 128, 128, 128, _CODE, 128, 128, 128, 128)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], sizes[0]))


def make_task(data: Path) -> ew.Task:
    """Windows, and 1 for those of the other speakers."""
    splits = _windows(data)
    train, val, test = ((windows, labels) for windows, labels, _ in splits)
    return ew.Task(train, val, test, goal=ew.Reconstruction(anomalies=True), name="fsdd-voices")


def compare(data: Path, task: ew.Task) -> dict[str, float]:
    """The error of a principal component analysis with as many values as the network's code."""
    del task
    (train, _, _), _, (test, labels, _) = _windows(data)
    found = PCA(_CODE, random_state=0).fit(train)
    errors = np.square(test - found.inverse_transform(found.transform(test))).mean(axis=1)
    return {"PCA of 8 components": float(roc_auc_score(labels, errors))}


def score_recordings(session: ew.Session, data: Path, task: ew.Task) -> dict[str, float]:
    """Area under the ROC curve of recordings, by the mean error of their windows."""
    del task
    windows, labels, owners = _windows(data)[2]
    errors = np.square(session(windows).outputs[0] - windows).mean(axis=1)
    counts = np.bincount(owners)
    return {"recording_auroc": float(roc_auc_score(
        np.bincount(owners, labels) / counts > 0, np.bincount(owners, errors) / counts))}


def _windows(data: Path) -> list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]]:
    """Windows, labels and numbers of the recordings of each split, by the training's statistics."""
    recordings = read_recordings(data / "fsdd", "train")
    by_speaker = [[found for found in recordings if found.speaker == speaker]
                  for speaker in range(len(SPEAKERS))]
    train = [found for at, found in enumerate(by_speaker[NORMAL]) if at % _HELD_OUT]
    val = [found for owned in by_speaker for found in owned[::_HELD_OUT]]
    features = _LOG_MEL.standardize(join_waveforms(train, _LOG_MEL))
    return [_cut(split, features) for split in (train, val, read_recordings(data / "fsdd", "test"))]


def _cut(recordings: Sequence[Recording], features: ew.AudioPreprocessing) -> Any:
    """All windows of five frames within a recording; one, padded, of a shorter recording."""
    log_mel = features.features(join_waveforms(recordings, features))[:, 0].transpose(0, 2, 1)
    windows, labels, owners = [], [], []
    for number, (found, frames) in enumerate(zip(recordings, log_mel, strict=True)):
        whole = 1 + (len(found.waveform) - features.frame_length) // features.hop
        count = max(1, min(whole, len(frames)) - FRAMES + 1)
        windows += [frames[start:start + FRAMES].ravel() for start in range(count)]
        labels += [int(found.speaker != NORMAL)] * count
        owners += [number] * count
    return np.stack(windows), np.array(labels), np.array(owners)


JOB: Final = Job(make_model, make_task,
                 ew.Training(epochs=60, batch_size=128, lr=0.003, optimizer="adamw",
                             weight_decay=0.01),
                 simple_figures=compare, file_figures=score_recordings)
