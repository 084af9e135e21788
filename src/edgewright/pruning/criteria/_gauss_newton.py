"""Gauss-Newton: how much removing a channel changes the predictions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from edgewright.goals import Prediction
from edgewright.pruning.criteria._gate_gradients import gate_gradients
from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector
from edgewright.task import Batch
from edgewright.training import split_exits


def gauss_newton(context: ScoringContext) -> Vector:
    """Half the squared gradient of the predictions with respect to a gate on the channel.

    ``1 / 2N * sum over n of |d z_n / d m_c|^2``, where z_n are a sample's predictions; logits of
    exclusive classes minus their mean over the classes, which the softmax ignores. A binary logit
    or a value is not centered, because all of it matters. If there are several predictions or
    exits, their scores are averaged. The gate is that of `fisher`, and so is the approximation of
    the Hessian (Schraudolph 2002), with the squared distance of the predictions as the loss.
    Therefore no targets are needed, and samples that the network classifies with high confidence,
    for which the gradient of the cross-entropy vanishes, contribute as much as others. The norm is
    estimated with one random sign vector per sample (Hutchinson 1990); the estimate is unbiased.
    """
    generator = torch.Generator().manual_seed(context.seed)

    def project(result: Any, batch: Batch) -> Tensor:
        del batch
        parts = [_project(prediction, generator)
                 for output in split_exits(result, context.program.exits)
                 for prediction in context.goal.predictions(output)]
        return torch.stack(parts).sum() / math.sqrt(len(parts))

    total = torch.zeros(context.channel_count, dtype=torch.float64)
    for gradients in gate_gradients(context, project):
        total += gradients.square().sum(dim=0)
    return (total / (2 * len(context.samples))).numpy()


def _project(prediction: Prediction, generator: torch.Generator) -> Tensor:
    """The product of a prediction, without what does not change its meaning, and random signs."""
    centered = prediction.kind.center(prediction.tensor)
    signs = torch.randint(0, 2, centered.shape, generator=generator).to(centered.dtype) * 2 - 1
    return (signs * centered).sum()
