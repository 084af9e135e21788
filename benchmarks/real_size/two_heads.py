"""Two answers from one net: which digit is spoken, and by whom.

The recordings of ``benchmarks.audio.fsdd``, and its DS-CNN with a classifier for the ten digits and
one for the six speakers, who are in all splits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor, nn

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

_CHANNELS: Final = 64


class TwoHeads(nn.Module):
    """A trunk and a classifier per answer."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*list(DsCnn(_CHANNELS))[:-1])
        self.digit = nn.Linear(4 * _CHANNELS, len(DIGITS))
        self.speaker = nn.Linear(4 * _CHANNELS, len(SPEAKERS))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map log-mel features (N, 1, 32, 49) to logits (N, 10) and (N, 6)."""
        features = self.trunk(x)
        return {"digit": self.digit(features), "speaker": self.speaker(features)}


def make_task(data: Path) -> ew.Task:
    """A goal per head; the digit's accuracy is the primary metric."""
    splits = []
    for name in ("train", "test"):
        recordings = read_recordings(data / "fsdd", name)
        splits.append((join_waveforms(recordings), {
            "digit": np.array([found.digit for found in recordings]),
            "speaker": np.array([found.speaker for found in recordings])}))
    train, test = splits
    return ew.Task(train, test=test, preprocessing=LOG_MEL.standardize(train[0]),
                   goal={"digit": ew.Classification(), "speaker": ew.Classification()},
                   name="fsdd-two-heads")


JOB: Final = Job(TwoHeads, make_task,
                 ew.Training(epochs=15, batch_size=64, lr=0.004, optimizer="adamw",
                             schedule={"cosine": 1}, weight_decay=0.02, clip_norm=5))
