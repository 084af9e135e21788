"""Names that stand for goals with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from edgewright.errors import UsageError
from edgewright.goals._binary import Binary, MultiLabel
from edgewright.goals._classification import Classification, Segmentation
from edgewright.goals._detection import Detection
from edgewright.goals._embedding import Embedding
from edgewright.goals._goal import Goal
from edgewright.goals._multi_task import MultiTask
from edgewright.goals._regression import Reconstruction, Regression

GoalLike: TypeAlias = "Goal | str | Mapping[str, GoalLike]"
GOALS: Final[Mapping[str, type[Goal]]] = {kind.name: kind for kind in (
    Classification, Binary, MultiLabel, Segmentation, Regression, Reconstruction, Embedding,
    Detection)}


def as_goal(goal: GoalLike) -> Goal:
    """A goal, the goal of that name, or one goal per output.

    Raises:
        UsageError: There is no goal of that name.

    Example:
        >>> as_goal("binary").name, as_goal({"a": "binary", "b": "regression"}).name
        ('binary', 'multi-task')
    """
    if isinstance(goal, Goal):
        return goal
    if isinstance(goal, str) and goal in GOALS:
        return GOALS[goal]()
    if isinstance(goal, Mapping):
        return MultiTask({str(name): as_goal(part) for name, part in goal.items()})
    raise UsageError(f"unknown goal {goal!r}; expected {', '.join(map(repr, GOALS))}, an object "
                     "such as Regression(unit='years'), a dict with one goal per output, or a "
                     "CustomGoal")
