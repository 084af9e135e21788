"""Network slimming: the scale of a channel's batch norms."""

from __future__ import annotations

import numpy as np
import torch
from torch.fx import Node

from edgewright.graph import argument, ops
from edgewright.program import Program
from edgewright.pruning.criteria._magnitude import l2
from edgewright.pruning.criteria._subject import Subject, Vector


def batch_norm(subject: Subject) -> Vector:
    """Absolute scale of a channel's batch norms, added up over the coupled group.

    ``sum over norms of |gamma_c|``: Liu et al. 2017 (network slimming), who train with a penalty
    on it first; here the scales are taken as they are. A group without a scaled batch norm falls
    back to `l2`, so that its channels still rank among each other.
    """
    scales = _scales(subject.program)
    total, norms = np.zeros(subject.count), np.zeros(subject.count)
    for (name, _), incidence in subject.places.items():
        if name in scales:
            gamma = subject.weight(name).abs()
            total += incidence.gather(gamma).numpy()
            norms += incidence.gather(torch.ones_like(gamma)).numpy()
    return total if norms.all() else np.where(norms > 0, total, l2(subject))


def _scales(program: Program) -> set[str]:
    """Names of the parameters that batch norms scale by."""
    gains = (argument(node, "weight") for node in program.calls() if node.target is ops.BATCH_NORM)
    return {str(gain.target) for gain in gains if isinstance(gain, Node)}
