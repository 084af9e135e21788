"""The control: no criterion at all."""

from __future__ import annotations

import numpy as np

from edgewright.pruning.criteria._subject import Subject, Vector


def random(subject: Subject) -> Vector:
    """Uniform on [0, 1), random_scores from the seed; what every other criterion has to beat."""
    return np.random.default_rng(subject.seed).random(subject.count)
