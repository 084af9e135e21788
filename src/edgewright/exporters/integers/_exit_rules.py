"""The rules of early exits from the arguments of `export`."""

from __future__ import annotations

from collections.abc import Sequence

from edgewright.core import ExitRule
from edgewright.errors import UsageError
from edgewright.goals import Goal, make_exit_confidence
from edgewright.program import Program


def make_exit_rules(program: Program, thresholds: Sequence[float | None] | None,
                    temperatures: Sequence[float] | None,
                    goal: Goal | None) -> tuple[ExitRule, ...]:
    """One rule per early exit; none without thresholds.

    Raises:
        UsageError: There are temperatures alone, their number or that of the thresholds is not that
            of the early exits, or exits of this goal have a score that is not the softmax's.
    """
    if thresholds is None:
        if temperatures is not None:
            raise UsageError("temperatures were given without thresholds; pass both, one per early "
                             "exit")
        return ()
    if make_exit_confidence(goal) is not None:
        name = "" if goal is None else goal.name
        raise UsageError(f"exits for {name} have a score in floating point, but the target 'c' "
                         "computes with integers alone and decides by the softmax of logits; "
                         "export without thresholds")
    divisors = (1.0,) * len(thresholds) if temperatures is None else temperatures
    if not program.exits == len(thresholds) == len(divisors):
        raise UsageError(f"given {len(thresholds)} thresholds and {len(divisors)} temperatures for "
                         f"{program.exits} early exits; give one of each per exit")
    return tuple(ExitRule(threshold=threshold, temperature=temperature)
                 for threshold, temperature in zip(thresholds, divisors, strict=True))
