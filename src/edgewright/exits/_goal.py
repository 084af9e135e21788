"""Which goals can have early exits, and by which scores."""

from __future__ import annotations

from edgewright.core import ExitPolicy
from edgewright.errors import UsageError
from edgewright.goals import Goal


def check_goal(goal: Goal, policy: ExitPolicy) -> None:
    """Refuse a goal without a confidence, and a policy that does not fit the goal.

    Raises:
        UsageError: No sample could leave early.

    Example:
        >>> from edgewright.goals import Regression
        >>> check_goal(Regression(), "confidence")
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: the goal regression cannot have early exits: a value does \
not tell how wrong it is
    """
    if goal.exit_obstacle:
        raise UsageError(f"the goal {goal.name} cannot have early exits: {goal.exit_obstacle}")
    check_policy(policy, scores_on_device=goal.scores_on_device)


def check_policy(policy: ExitPolicy, *, scores_on_device: bool) -> None:
    """Refuse a policy that needs logits of classes for exits that have none.

    Raises:
        UsageError: The score is computed inside the file, and the policy is another one.
    """
    if policy != "confidence" and not scores_on_device:
        raise UsageError(f"the exit policy {policy!r} needs one class per sample; for this goal "
                         "the score is computed inside the file: set policy='confidence'")
