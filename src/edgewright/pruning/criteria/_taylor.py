"""First-order Taylor expansion: what removing a channel does to the loss."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from edgewright.pruning.criteria._gates import summed_loss
from edgewright.pruning.criteria._slices import sum_over_slices
from edgewright.pruning.criteria._subject import Subject, Vector
from edgewright.training import as_outputs

_BATCH: Final = 64


def taylor(subject: Subject) -> Vector:
    """Squared first-order change of the loss as a channel's weights go to zero.

    ``sum over batches, sum over T, of (sum over w in T_c of g_w w)^2``: Molchanov et al. 2019,
    eq. 8, for the slice T_c of each tensor of the coupled group, g the gradient of a batch's mean
    loss (batches of 64, as the paper's). Squared tensor by tensor, for tensors in a row express
    one and the same change, and in the sum over the group would count it over and over.
    """
    module = subject.program.module().requires_grad_()  # frozen weights are judged too
    weights = {name: module.get_parameter(name) for name in subject.parameters}
    total = np.zeros(subject.count)
    for batch in subject.samples.batches(_BATCH):
        loss = summed_loss(as_outputs(module(*batch.inputs)), batch.targets) / len(batch.targets)
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        changes = {name: gradient * weight.detach() for (name, weight), gradient
                   in zip(weights.items(), gradients, strict=True)}
        total += sum_over_slices(subject, changes.__getitem__, after=np.square)
    return total
