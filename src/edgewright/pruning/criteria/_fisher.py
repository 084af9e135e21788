"""Fisher information: what removing a channel does to the loss, to second order."""

from __future__ import annotations

import torch

from edgewright.pruning.criteria._gates import gate_slopes, summed_loss
from edgewright.pruning.criteria._slices import sum_over_slices
from edgewright.pruning.criteria._subject import Subject, Vector
from edgewright.training import as_outputs


def fisher(subject: Subject) -> Vector:
    """Fisher information of a gate on the channel, halved.

    ``1 / 2N * sum over n of (d loss_n / d m_c)^2``: Theis et al. 2018, eq. 8, Optimal Brain Damage
    with the empirical Fisher matrix for the Hessian. The gate m_c = 1 stands on every read of the
    coupled group at once (Liu et al. 2021, eq. 6), so that the effects of its layers are added up
    before they are squared. Every sample has a gradient of its own. The scores estimate a rise of
    the loss and compare across groups as they are; Liu et al. divide them by the memory that a
    channel frees, which here is for the allocation to do.
    """
    total = torch.zeros(subject.count, dtype=torch.float64)
    for slopes in gate_slopes(subject):
        total += slopes.square().sum(dim=0)
    return (total / (2 * len(subject.samples))).numpy()


def obd(subject: Subject) -> Vector:
    """Optimal Brain Damage: the saliencies of all weights a channel is sliced from, added up.

    ``sum over w of 1/2 F_w w^2`` with ``F_w = 1 / N * sum over n of (d loss_n / d w)^2``: LeCun et
    al. 1990, eq. 5, the diagonal of the empirical Fisher matrix in the place of the Hessian's.
    Weights count one by one, as if each were removed alone; `fisher` does better than that. One
    backward pass a sample, so that every sample has a gradient of its own.
    """
    module = subject.program.module().requires_grad_()  # frozen weights are judged too
    weights = {name: module.get_parameter(name) for name in subject.parameters}
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for batch in subject.samples.batches(1):
        loss = summed_loss(as_outputs(module(*batch.inputs)), batch.targets)
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        for name, gradient in zip(weights, gradients, strict=True):
            squares[name] += gradient.square()
    scale = 1 / (2 * len(subject.samples))
    return sum_over_slices(
        subject, lambda name: scale * squares[name] * subject.weight(name).square())
