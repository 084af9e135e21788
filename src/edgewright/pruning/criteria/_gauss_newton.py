"""Gauss-Newton: how much removing a channel changes the predictions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from edgewright.goals import Prediction, kinds_with_scales, measure_scales
from edgewright.pruning.criteria._gate_gradients import gate_gradients
from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector
from edgewright.task import Batch
from edgewright.training import run_batches, split_exits


def gauss_newton(context: ScoringContext) -> Vector:
    """Half the squared gradient of the predictions with respect to a gate on the channel.

    ``1 / 2N * sum over n of |d z_n / d m_c|^2``, where z_n are a sample's predictions; logits of
    exclusive classes minus their mean over the classes, which the softmax ignores. A binary logit
    or a value is not centered, because all of it matters. The scores of several exits or
    predictions are averaged, each in the unit of its kind (`PredictionKind.unit`): logits in that
    of an undecided answer, values in their standard deviation or the scale that the goal states. So
    neither the unit of a value nor the number of pixels decides which channels matter; only the
    ratios of the units are used. The gate is that of `fisher`, and so is the approximation of
    the Hessian (Schraudolph 2002), with the squared distance of the predictions as the loss.
    Therefore no targets are needed, and samples that the network classifies with high confidence,
    for which the gradient of the cross-entropy vanishes, contribute as much as others. The norm is
    estimated with one random sign vector per sample (Hutchinson 1990); the estimate is unbiased.
    """
    generator = torch.Generator().manual_seed(context.seed)

    scales = _measure_scales(context)

    def project(result: Any, batch: Batch) -> Tensor:
        del batch
        predictions = [prediction for output in split_exits(result, context.program.exits)
                       for prediction in context.goal.predictions(output)]
        units = [kind.unit(prediction.tensor) for prediction, kind in zip(
            predictions, kinds_with_scales(predictions, scales), strict=True)]
        parts = [min(units) / unit * _project(prediction, generator)
                 for prediction, unit in zip(predictions, units, strict=True)]
        return torch.stack(parts).sum() / math.sqrt(len(parts))

    total = torch.zeros(context.channel_count, dtype=torch.float64)
    for gradients in gate_gradients(context, project):
        total += gradients.square().sum(dim=0)
    return (total / (2 * len(context.samples))).numpy()


def _measure_scales(context: ScoringContext) -> tuple[float, ...]:
    """Standard deviation of each prediction; none if there is only one, whose unit is no matter."""
    batches = (context.goal.predictions(outputs[-1])
               for outputs, _ in run_batches(context.program.module(), context.samples))
    first = next(batches)
    return () if len(first) == 1 else measure_scales(itertools.chain([first], batches))


def _project(prediction: Prediction, generator: torch.Generator) -> Tensor:
    """The product of a prediction, without what does not change its meaning, and random signs."""
    centered = prediction.kind.center(prediction.tensor)
    signs = torch.randint(0, 2, centered.shape, generator=generator).to(centered.dtype) * 2 - 1
    return (signs * centered).sum()
