"""Mixup and CutMix: training on mixtures of samples."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.errors import UsageError
from edgewright.task import Batch
from edgewright.training._augmentation import Augmentation
from edgewright.training._objective import Objective
from edgewright.training._stored_targets import requires_sample_ids


def mix_batch(batch: Batch, augmentation: Augmentation, classes: int, seed: int) -> Batch:
    """Every sample of a batch mixed with another of it, in the same proportion, and their labels.

    With l drawn from Beta(alpha, alpha) once per batch, as in both papers' code:

    - mixup (Zhang et al. 2018, eq. 1): ``l * one + (1 - l) * other``;
    - CutMix (Yun et al. 2019, eq. 1-2): a box of the other, anywhere, with sides of sqrt(1 - l) of
      the image's, cut off at the border; l is then the share of pixels that stay.

    Where both are set, each batch draws one of them, with even chances.

    Args:
        batch: Inputs in floating point; for CutMix (N, C, H, W), all of one H and W.
        augmentation: Both alphas; 0 is never.
        classes: How many there are.
        seed: Of all that is drawn.

    Returns:
        Probabilities as targets, (N, classes) float32; the batch itself where neither is set.
    """
    if not augmentation.is_mixing:
        return batch
    random = np.random.default_rng(seed)
    mixup, cutmix = augmentation.mixup, augmentation.cutmix
    cut = bool(cutmix) and (not mixup or random.random() < 0.5)
    alpha = cutmix if cut else mixup
    share = random.beta(alpha, alpha)
    other = torch.from_numpy(random.permutation(len(batch.targets))).to(batch.targets.device)
    if cut:
        height, width = batch.inputs[0].shape[2:]
        rows, columns = (_draw_stretch(size, math.sqrt(1 - share), random)
                         for size in (height, width))
        share = 1 - _length(rows) * _length(columns) / (height * width)
        inputs = tuple(_paste(tensor, other, rows, columns) for tensor in batch.inputs)
    else:
        inputs = tuple(torch.lerp(tensor[other], tensor, share) for tensor in batch.inputs)
    labels = F.one_hot(batch.targets, classes).float()
    return batch._replace(inputs=inputs, targets=torch.lerp(labels[other], labels, share))


def check_mixing(augmentation: Augmentation, inputs: tuple[Tensor, ...],
                 objective: Objective) -> None:
    """See that inputs like these can be mixed, and that the objective can be computed of mixtures.

    Raises:
        UsageError: Names the setting, and the input that it cannot be used with.
    """
    wanted = augmentation.mixing_names
    if wanted and requires_sample_ids(objective):
        raise UsageError(f"{' and '.join(wanted)} cannot be used with a teacher cache, which keeps "
                         "what was said of single samples: leave it at 0, or learn from a live "
                         "teacher")
    for number, tensor in enumerate(inputs):
        if wanted and not tensor.is_floating_point():
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise UsageError(f"{' and '.join(wanted)} cannot mix input {number} of the model, "
                             f"which is {dtype}; expected floating point: leave it at 0")
        if augmentation.cutmix and (tensor.ndim != 4 or tensor.shape[2:] != inputs[0].shape[2:]):
            raise UsageError(f"cutmix cannot cut input {number} of the model, of shape "
                             f"{tuple(tensor.shape)}; expected images (N, C, H, W), all of one "
                             "size: leave it at 0")


def _draw_stretch(size: int, share: float, random: np.random.Generator) -> slice:
    """A stretch of about that share of the pixels, around any of them, cut off at the border."""
    half = round(size * share / 2)
    centre = int(random.integers(size))
    return slice(max(centre - half, 0), min(centre + half, size))


def _length(stretch: slice) -> int:
    return int(stretch.stop - stretch.start)


def _paste(tensor: Tensor, other: Tensor, rows: slice, columns: slice) -> Tensor:
    result = tensor.clone()
    result[:, :, rows, columns] = tensor[other, :, rows, columns]
    return result
