"""Gauss-Newton: how much removing a channel changes the logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgewright.pruning.criteria._gate_gradients import gate_gradients
from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector


def gauss_newton(context: ScoringContext) -> Vector:
    """Half the squared gradient of the logits with respect to a gate on the channel.

    ``1 / 2N * sum over n of |d z_n / d m_c|^2``, where z_n are a sample's logits minus their mean
    over the classes, which the softmax ignores. A single output value is not centered, because a
    sigmoid or a regression depends on all of it. If there are several outputs, their scores are
    averaged. The gate is that of `fisher`, and so is the approximation of the Hessian (Schraudolph
    2002), with the squared distance of the logits as the loss. Therefore no labels are needed, and
    samples that the network classifies with high confidence, for which the gradient of the
    cross-entropy vanishes, contribute as much as others. The norm is estimated with one random
    sign vector per sample (Hutchinson 1990); the estimate is unbiased.
    """
    generator = torch.Generator().manual_seed(context.seed)

    def project_logits(outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        del targets
        parts = [(_random_signs(logits, generator) * logits).sum() for logits in outputs]
        return torch.stack(parts).sum() / math.sqrt(len(outputs))

    total = torch.zeros(context.channel_count, dtype=torch.float64)
    for gradients in gate_gradients(context, project_logits):
        total += gradients.square().sum(dim=0)
    return (total / (2 * len(context.samples))).numpy()


def _random_signs(outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs, centered over the classes so that products ignore the mean of the logits."""
    signs = torch.randint(0, 2, outputs.shape, generator=generator).to(outputs.dtype) * 2 - 1
    has_classes = outputs.ndim > 1 and outputs.shape[1] > 1
    return signs - signs.mean(dim=1, keepdim=True) if has_classes else signs
