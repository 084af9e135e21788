"""Mixup and CutMix: training on mixtures of samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgewright.errors import UsageError
from edgewright.goals import Goal
from edgewright.task import Batch
from edgewright.training._augmentation import Augmentation
from edgewright.training._objective import Objective
from edgewright.training._stored_targets import requires_sample_ids


def mix_batch(batch: Batch, augmentation: Augmentation, goal: Goal, outputs: Any,
              seed: int) -> Batch:
    """Mix every sample of a batch, and its label, with another sample in the same proportion.

    With l drawn from Beta(alpha, alpha) once per batch, as in both papers' code:

    - mixup (Zhang et al. 2018, eq. 1): ``l * one + (1 - l) * other``;
    - CutMix (Yun et al. 2019, eq. 1-2): a box of the other image at a random position, with sides
      of sqrt(1 - l) of the image's, clipped at the border; l is then the share of pixels kept.

    If both are set, each batch uses one of them, with equal probability.

    Args:
        batch: Floating-point inputs; for CutMix (N, C, H, W), all with the same H and W.
        augmentation: Both alphas; 0 disables.
        goal: Mixes the targets.
        outputs: The model's outputs for some batch.
        seed: Seed of all random choices.

    Returns:
        A batch with mixed targets, for a classification probabilities (N, classes) float32; the
        batch itself if neither is set.
    """
    if not augmentation.is_mixing:
        return batch
    random = np.random.default_rng(seed)
    mixup, cutmix = augmentation.mixup, augmentation.cutmix
    cut = bool(cutmix) and (not mixup or random.random() < 0.5)
    alpha = cutmix if cut else mixup
    share = random.beta(alpha, alpha)
    other = torch.from_numpy(random.permutation(batch.size)).to(batch.inputs[0].device)
    if cut:
        height, width = batch.inputs[0].shape[2:]
        rows, columns = (_random_interval(size, math.sqrt(1 - share), random)
                         for size in (height, width))
        share = 1 - _length(rows) * _length(columns) / (height * width)
        inputs = tuple(_paste(tensor, other, rows, columns) for tensor in batch.inputs)
    else:
        inputs = tuple(torch.lerp(tensor[other], tensor, share) for tensor in batch.inputs)
    return batch._replace(inputs=inputs, targets=goal.mix(batch.targets, other, share, outputs))


def check_mixing(augmentation: Augmentation, inputs: tuple[Tensor, ...],
                 objective: Objective) -> None:
    """Check that such inputs can be mixed and that the objective supports mixed samples.

    Raises:
        UsageError: The message names the setting and the input that is not supported.
    """
    wanted = augmentation.mixing_names
    if wanted and requires_sample_ids(objective):
        raise UsageError(f"{' and '.join(wanted)} cannot be used with a teacher cache, which "
                         "stores outputs for single samples only: leave it at 0, or use a live "
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


def _random_interval(size: int, share: float, random: np.random.Generator) -> slice:
    """An interval of about this share of the pixels around a random center, clipped."""
    half = round(size * share / 2)
    center = int(random.integers(size))
    return slice(max(center - half, 0), min(center + half, size))


def _length(interval: slice) -> int:
    return int(interval.stop - interval.start)


def _paste(tensor: Tensor, other: Tensor, rows: slice, columns: slice) -> Tensor:
    result = tensor.clone()
    result[:, :, rows, columns] = tensor[other, :, rows, columns]
    return result
