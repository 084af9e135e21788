"""Retrieval of spoken words: vectors that are close if speaker and digit are the same.

The 60 pairs of a speaker and a digit are the classes (50 recordings each). 36 of them are trained
on, 10 others are for validation, and the remaining 14 for the test: as with faces, no class of the
test was seen in training. Recall at 1 is the share of test recordings whose nearest other one has
the same class; 7 % of the other recordings have it. Repetitions of a word by one speaker are so
alike that the features themselves find them nearly as often.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

import edgewright as ew
from benchmarks.audio.fsdd import DsCnn
from benchmarks.audio.recordings import (
    DIGITS,
    LOG_MEL,
    SPEAKERS,
    join_waveforms,
    read_recordings,
)
from benchmarks.real_size.job import Job

_CHANNELS: Final = 40
_TRAIN, _VAL = 36, 10  # classes; the rest are for the test


def make_model() -> nn.Module:
    """Log-mel features (N, 1, 32, 49) to vectors (N, 48): a DS-CNN without its classifier."""
    return nn.Sequential(*list(DsCnn(_CHANNELS))[:-1], nn.Linear(4 * _CHANNELS, 48))


def make_task(data: Path) -> ew.Task:
    """Recordings of disjoint classes."""
    recordings = [found for split in ("train", "test")
                  for found in read_recordings(data / "fsdd", split)]
    classes = np.array([len(DIGITS) * found.speaker + found.digit for found in recordings])
    order = torch.randperm(len(DIGITS) * len(SPEAKERS),
                           generator=torch.Generator().manual_seed(0)).numpy()
    waveforms = join_waveforms(recordings)
    parts = np.split(order, [_TRAIN, _TRAIN + _VAL])
    train, val, test = ((waveforms[rows], classes[rows])
                        for rows in (np.isin(classes, part) for part in parts))
    return ew.Task(train, val, test, goal="embedding", name="fsdd-words",
                   preprocessing=LOG_MEL.standardize(train[0]))


def compare(data: Path, task: ew.Task) -> dict[str, float]:
    """The log-mel features themselves."""
    del data
    metric = task.goal.metrics[0].make()
    for batch in task.test.batches(100):
        metric.update(batch.inputs[0].flatten(1), batch.targets)
    return {"log-mel features": float(metric.compute())}


JOB: Final = Job(make_model, make_task,
                 ew.Training(epochs=12, batch_size=96, lr=0.004, optimizer="adamw",
                             schedule={"cosine": 1}, weight_decay=0.02, clip_norm=5),
                 simple_figures=compare)
