"""Fisher information: how much removing a channel changes the loss, to second order."""

from __future__ import annotations

import torch

from edgewright.pruning.criteria._gate_gradients import gate_gradients
from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector
from edgewright.pruning.criteria._slice_sums import sum_over_slices


def fisher(context: ScoringContext) -> Vector:
    """Half the Fisher information of a gate on the channel.

    ``1 / 2N * sum over n of (d loss_n / d m_c)^2``: Theis et al. 2018, eq. 8, which is Optimal
    Brain Damage with the empirical Fisher matrix in place of the Hessian. The gate m_c = 1
    multiplies the channel in all layer inputs of the coupled group at once (Liu et al. 2021, eq.
    6), so that the contributions of the layers are summed before they are squared. Gradients are
    taken per sample. The scores estimate an increase of the loss and can be compared across groups
    without normalization. Liu et al. divide them by the memory that a channel frees; here the
    allocation takes care of costs.
    """
    total = torch.zeros(context.channel_count, dtype=torch.float64)
    for gradients in gate_gradients(context, context.summed_loss):
        total += gradients.square().sum(dim=0)
    return (total / (2 * len(context.samples))).numpy()


def obd(context: ScoringContext) -> Vector:
    """Optimal Brain Damage: the summed saliencies of all weights in a channel's slices.

    ``sum over w of 1/2 F_w w^2`` with ``F_w = 1 / N * sum over n of (d loss_n / d w)^2``: LeCun et
    al. 1990, eq. 5, with the diagonal of the empirical Fisher matrix in place of the Hessian's.
    Each weight is treated as if it were removed alone, which `fisher` avoids; prefer `fisher`. One
    backward pass per sample, for per-sample gradients.
    """
    module = context.program.module().requires_grad_()  # frozen weights are scored too
    weights = {name: module.get_parameter(name) for name in context.parameters}
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for batch in context.samples.batches(1):
        loss = context.summed_loss(module(*batch.inputs), batch)
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        for name, gradient in zip(weights, gradients, strict=True):
            squares[name] += gradient.square()
    scale = 1 / (2 * len(context.samples))
    return sum_over_slices(
        context, lambda name: scale * squares[name] * context.weight(name).square())
