"""Objectives whose targets were stored sample by sample before the training."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from edgewright.training._objective import Objective, WrappedObjective


@runtime_checkable
class StoredTargets(Protocol):
    """What an objective adds that looks up what was stored of each sample, as a teacher cache does.

    Attributes:
        views: How many views of every sample are stored, from number 0 on: the epochs take them in
            turn. None where any view will do.
        requires_sample_ids: Whether samples are looked up by their rows, so that nothing is known
            of their mixtures.

    Example:
        >>> class Lookup:
        ...     views, requires_sample_ids = 4, True
        >>> isinstance(Lookup(), StoredTargets)
        True
    """

    @property
    def views(self) -> int | None:
        """How many views of every sample are stored."""
        ...

    @property
    def requires_sample_ids(self) -> bool:
        """Whether samples are looked up by their rows."""
        ...


def count_stored_views(objective: Objective) -> int | None:
    """How many views the epochs take in turn; None, and each has its own.

    Example:
        >>> from edgewright.training import LabelLoss
        >>> count_stored_views(LabelLoss()) is None
        True
    """
    found = _find_stored(objective)
    return None if found is None else found.views


def requires_sample_ids(objective: Objective) -> bool:
    """Whether an objective, or one inside it, looks samples up by their rows."""
    found = _find_stored(objective)
    return found is not None and found.requires_sample_ids


def _find_stored(objective: Objective) -> StoredTargets | None:
    while not isinstance(objective, StoredTargets):
        if not isinstance(objective, WrappedObjective):
            return None
        objective = objective.wrapped
    return objective
