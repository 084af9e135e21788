"""Network slimming: the scale of a channel's batch norms."""

from __future__ import annotations

import numpy as np
import torch
from torch.fx import Node

from edgewright.graph import argument, ops
from edgewright.program import Program
from edgewright.pruning.criteria._magnitude import l2
from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector


def batch_norm(context: ScoringContext) -> Vector:
    """Absolute scale of a channel's batch norms, summed over the coupled group.

    ``sum over norms of |gamma_c|``: Liu et al. 2017 (network slimming). They first train with a
    penalty on the scales; here the scales are used as they are. A group without a batch norm with
    scales falls back to `l2`, so that its channels can still be ranked within the group.
    """
    scale_names = _batch_norm_scales(context.program)
    total, norms = np.zeros(context.channel_count), np.zeros(context.channel_count)
    for (name, _), incidence in context.incidences.items():
        if name in scale_names:
            gamma = context.weight(name).abs()
            total += incidence.gather(gamma).numpy()
            norms += incidence.gather(torch.ones_like(gamma)).numpy()
    return total if norms.all() else np.where(norms > 0, total, l2(context))


def _batch_norm_scales(program: Program) -> set[str]:
    """Names of the scale parameters of batch norms."""
    gains = (argument(node, "weight") for node in program.calls() if node.target is ops.BATCH_NORM)
    return {str(gain.target) for gain in gains if isinstance(gain, Node)}
