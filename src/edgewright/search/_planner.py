"""What to build: the joint program of a search, with its limits corrected by measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

from edgewright.allocation import (
    Bits,
    ChoiceProblem,
    Damages,
    JointAnswer,
    JointSpace,
    Keep,
    LatencyTable,
    Width,
    find_nearest_miss,
    find_smallest,
    make_joint_problem,
    read_answer,
    solve_choices,
)
from edgewright.core import Budget, Figures, format_cost
from edgewright.errors import BudgetError
from edgewright.search._candidate import Factors
from edgewright.search._predictions import correct_limits
from edgewright.search._trial import Trial

_ANSWERS: Final = 3
_SECONDS: Final = 20.0
_SLACK: Final = 1.02  # of the smallest size, for a proposal that asks for less


@final
@dataclass(frozen=True)
class Planner:
    """Solves the joint program of a search.

    Attributes:
        space: What can be decided.
        damages: The predicted damages.
        budget: The limits.
        original: The original's figures.
        latency: Measured latencies of the layers; None if the latency is not limited.
    """

    space: JointSpace
    damages: Damages
    budget: Budget
    original: Figures
    latency: LatencyTable | None

    def predict_unchanged(self) -> dict[str, float]:
        """The predicted costs with every block, every channel and the most bits."""
        problem = self._problem(self.damages, {})
        return problem.costs_of({
            decision: _unchanged_option(self.space, decision) for decision in problem.decisions})

    def answers(self, factors: Factors, trials: Sequence[Trial]) -> Iterator[JointAnswer]:
        """The best answers to a proposal, the best first; they differ in blocks or widths.

        If the budget limits no cost, the size is limited as proposed.

        Args:
            factors: How damages are weighed.
            trials: What was measured so far.
        """
        damages = self.damages.scale(blocks=factors.blocks, widths=factors.widths)
        limits = (correct_limits(self.budget, self.original, trials) if self.budget.limits_costs
                  else {"size": self._limit_size(factors.shrink)})
        problem = self._problem(damages, limits)
        structure = [decision for decision in problem.decisions if not isinstance(decision, Bits)]
        for solution in solve_choices(problem, count=_ANSWERS, distance=2, distinct=structure,
                                      seconds=_SECONDS):
            yield read_answer(self.space, solution)

    def check_feasible(self, trials: Sequence[Trial]) -> None:
        """Check that some candidate is within all limits on costs, as predicted.

        Raises:
            BudgetError: None is; the message has the smallest value of each limited cost alone,
                and how far the nearest miss is.
        """
        limits = correct_limits(self.budget, self.original, trials)
        problem = self._problem(self.damages, limits)
        if next(solve_choices(problem, seconds=_SECONDS), None) is not None:
            return
        parts = []
        for name, limit in limits.items():
            smallest = find_smallest(problem, name)
            if smallest is not None and smallest.costs[name] > limit:
                parts.append(f"{name} can be reduced to "
                             f"{format_cost(name, smallest.costs[name])}, the limit is "
                             f"{format_cost(name, limit)}")
        nearest = find_nearest_miss(problem)
        if not parts and nearest is not None:
            found = ", ".join(f"{name} {format_cost(name, nearest.costs[name])} "
                              f"({format_cost(name, limit)})" for name, limit in limits.items())
            parts.append(f"each limit can be met, but not all together; the nearest is {found}")
        raise BudgetError(f"the budget cannot be met: {'; '.join(parts)}; these are predictions "
                          "for the model with blocks, channels and bits removed as far as allowed; "
                          "raise the limit or start from a smaller model")

    def _limit_size(self, share: float) -> float:
        """A share of the unchanged size, but no less than what can be reached."""
        return max(_SLACK * self._least_size, share * self.predict_unchanged()["size"])

    @cached_property
    def _least_size(self) -> float:
        smallest = find_smallest(self._problem(self.damages, {}), "size")
        return 0.0 if smallest is None else smallest.costs["size"]

    def _problem(self, damages: Damages, limits: Mapping[str, float]) -> ChoiceProblem:
        return make_joint_problem(self.space, damages, limits, self.latency)


def _unchanged_option(space: JointSpace, decision: object) -> int:
    if isinstance(decision, Keep):
        return 0
    if isinstance(decision, Width):
        return len(space.widths[decision.group]) - 1
    assert isinstance(decision, Bits)  # noqa: S101 - there are no other decisions
    options = space.bits[decision.weight]
    return options.index(max(options))
