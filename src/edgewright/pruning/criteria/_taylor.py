"""First-order Taylor expansion: how much removing a channel changes the loss."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector
from edgewright.pruning.criteria._slice_sums import sum_over_slices

_BATCH: Final = 64


def taylor(context: ScoringContext) -> Vector:
    """Squared first-order change of the loss if a channel's weights are set to zero.

    ``sum over batches, sum over T, of (sum over w in T_c of g_w w)^2``: Molchanov et al. 2019,
    eq. 8, for the slice T_c of each tensor of the coupled group, where g is the gradient of a
    batch's mean loss (batches of 64, as in the paper). Sums are squared per tensor: consecutive
    tensors express the same change, and one sum over the group would count it several times.
    """
    module = context.program.module().requires_grad_()  # frozen weights are scored too
    weights = {name: module.get_parameter(name) for name in context.parameters}
    total = np.zeros(context.channel_count)
    for batch in context.samples.batches(_BATCH):
        loss = context.summed_loss(module(*batch.inputs), batch) / batch.size
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        changes = {name: gradient * weight.detach() for (name, weight), gradient
                   in zip(weights.items(), gradients, strict=True)}
        total += sum_over_slices(context, changes.__getitem__, transform=np.square)
    return total
