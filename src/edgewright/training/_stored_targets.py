"""Objectives with per-sample targets that were stored before the training."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from edgewright.training._objective import Objective, WrappedObjective


@runtime_checkable
class StoredTargets(Protocol):
    """Implemented by objectives that look up stored per-sample targets, such as a teacher cache.

    Attributes:
        views: Number of views stored per sample, numbered from 0; the epochs cycle through them.
            None if any view is possible.
        requires_sample_ids: Whether samples are looked up by row, which rules out mixed samples.

    Example:
        >>> class Lookup:
        ...     views, requires_sample_ids = 4, True
        >>> isinstance(Lookup(), StoredTargets)
        True
    """

    @property
    def views(self) -> int | None:
        """Number of views stored per sample."""
        ...

    @property
    def requires_sample_ids(self) -> bool:
        """Whether samples are looked up by row."""
        ...


def count_stored_views(objective: Objective) -> int | None:
    """The number of stored views that the epochs cycle through; None if each has its own.

    Example:
        >>> from edgewright.goals import Classification
        >>> from edgewright.training import GoalLoss
        >>> count_stored_views(GoalLoss(Classification())) is None
        True
    """
    found = _find_stored(objective)
    return None if found is None else found.views


def requires_sample_ids(objective: Objective) -> bool:
    """Whether an objective, or one that it wraps, looks up samples by row."""
    found = _find_stored(objective)
    return found is not None and found.requires_sample_ids


def _find_stored(objective: Objective) -> StoredTargets | None:
    while not isinstance(objective, StoredTargets):
        if not isinstance(objective, WrappedObjective):
            return None
        objective = objective.wrapped
    return objective
