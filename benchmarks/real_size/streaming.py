"""Spoken digits heard frame by frame: causal convolutions whose past is input and output.

Each of four convolutions over time keeps the frames that it needs of its input as a state, so that
a call may bring any number of frames: one file is trained and tested on whole recordings of 49
frames and runs on single ones as they arrive (16 ms each). It has heard 76 frames, 1.2 s, when it
answers, and answers after every frame. ``stream_difference`` is the largest difference of a test
recording's logits between 49 calls of `Session.stream` with one frame each and one call with all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import edgewright as ew
from benchmarks.audio.recordings import DIGITS, LOG_MEL, join_waveforms, read_recordings
from benchmarks.real_size.job import Job

_MELS: Final = LOG_MEL.mels
_FRAMES: Final = LOG_MEL.shape[2]
_CHANNELS: Final = 48
_KERNEL: Final = 6
_DILATIONS: Final = (1, 2, 4, 8)


class CausalNet(nn.Module):
    """Convolutions over time that look back only, and a classifier of the last frame."""

    def __init__(self) -> None:
        super().__init__()
        widths = (_MELS, *[_CHANNELS] * len(_DILATIONS))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv1d(width, _CHANNELS, _KERNEL, dilation=dilation, bias=False),
                          nn.BatchNorm1d(_CHANNELS), nn.ReLU())
            for width, dilation in zip(widths, _DILATIONS, strict=False))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(_CHANNELS, len(DIGITS)))

    def forward(self, frames: Tensor, *past: Tensor) -> dict[str, Tensor]:
        """Map frames (N, mels, T) and the past of each layer to logits (N, 10) and the new past."""
        found = {}
        for number, (layer, before) in enumerate(zip(self.layers, past, strict=True)):
            frames = torch.cat([before, frames], dim=2)
            found[f"past_{number}"] = frames[:, :, -before.shape[2]:]
            frames = layer(frames)
        return {"logits": self.head(frames[:, :, -1]), **found}


def make_task(data: Path) -> ew.Task:
    """Features of whole recordings, with an empty past."""
    recordings = [read_recordings(data / "fsdd", name) for name in ("train", "test")]
    features = LOG_MEL.standardize(join_waveforms(recordings[0]))
    train, test = (((torch.from_numpy(features.features(join_waveforms(split)))[:, 0],
                     *empty_past(len(split))), np.array([found.digit for found in split]))
                   for split in recordings)
    return ew.Task(train, test=test, goal=ew.Classification(output="logits"), classes=DIGITS,
                   name="fsdd-stream")


def empty_past(samples: int) -> tuple[Tensor, ...]:
    """Zeros for every layer's past, (samples, channels, frames)."""
    widths = (_MELS, *[_CHANNELS] * len(_DILATIONS))
    return tuple(torch.zeros(samples, width, (_KERNEL - 1) * dilation)
                 for width, dilation in zip(widths, _DILATIONS, strict=False))


def stream_test_recordings(session: ew.Session, data: Path, task: ew.Task) -> dict[str, float]:
    """Accuracy frame by frame, and the largest difference from whole recordings."""
    del data
    batch = next(task.test.batches(len(task.test)))
    frames = batch.inputs[0].numpy()
    whole = session(*(value.numpy() for value in batch.inputs)).outputs[0]
    stream = session.stream()
    logits: NDArray[Any] = whole
    for at in range(frames.shape[2]):
        logits = stream(frames[:, :, at:at + 1]).outputs[0]
    right = logits.argmax(axis=1) == batch.targets.numpy()
    return {"stream_accuracy": float(right.mean()),
            "stream_difference": float(np.abs(logits - whole).max()),
            "stream_same_digit": float((logits.argmax(axis=1) == whole.argmax(axis=1)).mean())}


JOB: Final = Job(CausalNet, make_task,
                 ew.Training(epochs=15, batch_size=64, lr=0.003, optimizer="adamw",
                             schedule={"cosine": 1}, weight_decay=0.05, clip_norm=5,
                             augment=False), ratio=0.3,
                 capture={"dynamic": {"frames": {2: (1, _FRAMES)}},
                          "states": {f"past_{number}": f"past_{number}"
                                     for number in range(len(_DILATIONS))}},
                 file_figures=stream_test_recordings)
