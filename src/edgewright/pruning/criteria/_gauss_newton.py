"""Gauss-Newton: how far removing a channel moves the logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgewright.pruning.criteria._gates import gate_slopes
from edgewright.pruning.criteria._subject import Subject, Vector


def gauss_newton(subject: Subject) -> Vector:
    """Squared slope of the logits by a gate on the channel, halved.

    ``1 / 2N * sum over n of |d z_n / d m_c|^2``, z_n a sample's logits less their mean over the
    classes, which the softmax does not see; a single number is taken as it is, for a sigmoid or a
    regression sees all of it. The mean over the outputs, where there are several. The gate is that
    of `fisher`, and so is the Hessian's approximation (Schraudolph 2002), with a squared distance
    of logits for the loss: no labels are needed, and samples that the network is sure of, on which
    the gradient of cross-entropy vanishes, tell as much as the others. The norm is estimated by
    one product with random signs per sample (Hutchinson 1990), which is without bias.
    """
    generator = torch.Generator().manual_seed(subject.seed)

    def projected(outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        del targets
        parts = [(_random_signs(logits, generator) * logits).sum() for logits in outputs]
        return torch.stack(parts).sum() / math.sqrt(len(outputs))

    total = torch.zeros(subject.count, dtype=torch.float64)
    for slopes in gate_slopes(subject, projected):
        total += slopes.square().sum(dim=0)
    return (total / (2 * len(subject.samples))).numpy()


def _random_signs(outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs; of classes less their mean: a product with them leaves the logits' mean out."""
    signs = torch.randint(0, 2, outputs.shape, generator=generator).to(outputs.dtype) * 2 - 1
    has_classes = outputs.ndim > 1 and outputs.shape[1] > 1
    return signs - signs.mean(dim=1, keepdim=True) if has_classes else signs
