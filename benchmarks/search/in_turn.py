"""Blocks, widths and bits decided one after the other, as a rival of deciding them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np

from edgewright.allocation import (
    Damages,
    JointAnswer,
    find_nearest_miss,
    make_joint_problem,
    read_answer,
    solve_choices,
)
from edgewright.search._candidate import Factors
from edgewright.search._planner import Planner
from edgewright.search._predictions import correct_limits
from edgewright.search._trial import Trial

_NEVER: Final = 1e6  # damage of what may not be chosen; its negative is that of what must be
_SECONDS: Final = 20.0


@final
@dataclass(frozen=True)
class InTurn:
    """Plans as a chain of techniques does: prune blocks, then channels, then quantize.

    Each of the three takes an equal share of the way to every limit, as a factor, and is solved
    exactly; what was decided before stays.

    Attributes:
        planner: The joint planner, whose space, damages and limits are used.
    """

    planner: Planner

    def check_feasible(self, trials: Sequence[Trial]) -> None:
        """As for the joint planner."""
        self.planner.check_feasible(trials)

    def answers(self, factors: Factors, trials: Sequence[Trial]) -> Iterator[JointAnswer]:
        """One answer; none if the last technique cannot meet the limits."""
        planner = self.planner
        damages = planner.damages.scale(blocks=factors.blocks, widths=factors.widths)
        limits = correct_limits(planner.budget, planner.original, trials)
        before = planner.predict_unchanged()
        blocks = self._solve(_fix(damages, widths=True, bits=True), _part(limits, before, 1))
        after = _decide_blocks(damages, blocks.removed)
        widths = self._solve(_fix(after, bits=True), _part(limits, before, 2))
        decided = self._decide_widths(after, widths)
        problem = make_joint_problem(planner.space, decided, limits, planner.latency)
        found = next(solve_choices(problem, seconds=_SECONDS), None)
        if found is not None:
            yield replace(read_answer(planner.space, found), damage=0.0)

    def _solve(self, damages: Damages, limits: Mapping[str, float]) -> JointAnswer:
        problem = make_joint_problem(self.planner.space, damages, limits, self.planner.latency)
        found = next(solve_choices(problem, seconds=_SECONDS), None) or find_nearest_miss(problem)
        if found is None:
            raise RuntimeError("the program has no solution at all")
        return read_answer(self.planner.space, found)

    def _decide_widths(self, damages: Damages, answer: JointAnswer) -> Damages:
        """Damages with which exactly the answer's widths are chosen."""
        space, fixed = self.planner.space, []
        for group, widths in zip(space.groups.groups, space.widths, strict=True):
            kept = answer.widths.get(group.name, int(widths[-1]))
            fixed.append(np.where(np.asarray(widths) == kept, 0.0, _NEVER))
        return replace(damages, widths=fixed)


def _part(limits: Mapping[str, float], before: Mapping[str, float],
          techniques: int) -> dict[str, float]:
    """Limits after some of the three techniques."""
    return {name: before[name] * min(1.0, limit / before[name]) ** (techniques / 3)
            for name, limit in limits.items()}


def _fix(damages: Damages, *, widths: bool = False, bits: bool = False) -> Damages:
    """Damages with which full widths, or the most bits, are chosen."""
    full = [np.append(np.full(len(values) - 1, _NEVER), 0.0) for values in damages.widths]
    most = {name: [0.0, *([_NEVER] * (len(values) - 1))] for name, values in damages.bits.items()}
    return replace(damages, widths=full if widths else damages.widths,
                   bits=most if bits else damages.bits)


def _decide_blocks(damages: Damages, removed: Sequence[str]) -> Damages:
    """Damages with which exactly these blocks are removed."""
    return replace(damages, pairs={}, blocks={
        name: -_NEVER if name in removed else _NEVER for name in damages.blocks})
