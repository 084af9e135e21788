"""Splits of recordings: the bundle's features, shifted as a view says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgewright.core import AudioPreprocessing
from edgewright.errors import DataError
from edgewright.goals import Segmentation
from edgewright.task import AudioSplit, Task, TensorSplit, View

RECIPE = AudioPreprocessing(sample_rate=8000, length=400, frame_length=64, hop=32, fft_size=64,
                            mels=6, mean=-3.0, std=2.0)
WAVEFORMS = torch.from_numpy(np.random.default_rng(0).integers(-9000, 9000, (12, 300), np.int16))
LABELS = torch.arange(12) % 3


def features(waveforms: Any) -> Tensor:
    return torch.from_numpy(RECIPE.features(np.asarray(waveforms)))


@pytest.mark.parametrize("waveforms", [WAVEFORMS, WAVEFORMS.float() / 32768,
                                       WAVEFORMS.double() / 32768], ids=["16", "f32", "f64"])
def test_batches_hold_the_features_of_the_bundle(waveforms: Tensor) -> None:
    split = AudioSplit(waveforms, LABELS, RECIPE)
    assert split.input_signature() == ("float32 (1, 6, 11)",)
    for batch in split.batches(5, shuffle_seed=1):
        torch.testing.assert_close(batch.inputs[0], features(WAVEFORMS[batch.rows]))
        assert torch.equal(batch.targets, LABELS[batch.rows])


def test_a_view_shifts_a_recording_alike_in_any_batch() -> None:
    split = AudioSplit(WAVEFORMS, LABELS, RECIPE)
    whole = next(split.batches(12, view=View(7))).inputs[0]
    assert not torch.equal(whole, next(split.batches(12, view=View(8))).inputs[0])
    padded = np.pad(WAVEFORMS.numpy(), ((0, 0), (40, 140)))
    candidates = torch.stack([features(padded[:, start:start + 400]) for start in range(81)])
    for batch in split.batches(5, shuffle_seed=3, view=View(7)):
        torch.testing.assert_close(batch.inputs[0], whole[batch.rows])
        distances = (candidates[:, batch.rows] - batch.inputs[0]).abs().amax(dim=(2, 3, 4))
        assert float(distances.amin(dim=0).max()) < 1e-5


def test_the_digest_depends_on_samples_labels_and_preprocessing() -> None:
    other, labels = WAVEFORMS.clone(), LABELS.clone()
    other[11, 299] ^= 1
    labels[3] = 2
    splits = [AudioSplit(WAVEFORMS, LABELS, RECIPE), AudioSplit(other, LABELS, RECIPE),
              AudioSplit(WAVEFORMS, labels, RECIPE),
              AudioSplit(WAVEFORMS, LABELS, RECIPE.replace(mean=0.0))]
    digests = {split.digest() for split in splits}
    assert len(digests) == 4
    assert AudioSplit(WAVEFORMS, LABELS, RECIPE).digest() in digests


@pytest.mark.parametrize(("waveforms", "labels", "message"), [
    (WAVEFORMS[0], LABELS, r"int16 of shape \(300,\); expected int16 or floating point"),
    (WAVEFORMS.long(), LABELS, "are int64 of shape"),
    (WAVEFORMS, LABELS[:9], "lengths must be equal"),
    (torch.full((12, 300), float("nan")), LABELS, "sample 0 of the data split holds NaN")])
def test_what_is_no_recording_is_refused(waveforms: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        AudioSplit(waveforms, labels, RECIPE)


def test_a_task_takes_recordings_or_their_features() -> None:
    pair = (WAVEFORMS.numpy(), LABELS)
    task = Task(pair, test=(WAVEFORMS[:3] + 1, LABELS[:3]), preprocessing=RECIPE)
    assert isinstance(task.train, AudioSplit)
    assert task.preprocessing == RECIPE
    own = AudioSplit(WAVEFORMS, LABELS, RECIPE)
    assert Task(own, test=(features(WAVEFORMS[:3]), LABELS[:3])).preprocessing == RECIPE
    computed = Task((features(WAVEFORMS), LABELS), test=pair, preprocessing=RECIPE)
    assert isinstance(computed.train, TensorSplit)
    with pytest.raises(DataError, match="holds uint8 images"):
        Task((torch.zeros(4, 1, 6, 11, dtype=torch.uint8), LABELS[:4]), test=pair,
             preprocessing=RECIPE)


def test_targets_about_positions_are_not_shifted() -> None:
    split = AudioSplit(WAVEFORMS, torch.zeros(12, 6, 11, dtype=torch.long), RECIPE)
    split = split.for_goal(Segmentation())
    assert split.variation == "none"
    assert torch.equal(next(split.batches(4, view=View(1))).inputs[0], split.example(4)[0])
