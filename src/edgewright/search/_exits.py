"""Variants of a candidate with early exits, or cut at one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from edgewright.core import Budget
from edgewright.errors import ModelError
from edgewright.exits import MIN_CALIBRATION_SAMPLES, EarlyExits, fit_exits
from edgewright.pipeline import Recipe, RunSettings
from edgewright.program import check_fixed_sizes
from edgewright.search._candidate import Proposal
from edgewright.search._config import Search
from edgewright.search._planner import Planner
from edgewright.search._recipes import write_recipe
from edgewright.search._trial import Trial

_PER_PATH: Final = ("latency", "macs", "energy")  # limits that samples which leave early help with
_SAVED: Final = 1.3  # what a network may exceed such a limit by, if samples leave early
_CUT: Final = 1.5    # what a network may exceed any limit by, if it ends at two thirds


class ExitVariant(NamedTuple):
    """A candidate with exits or a cut.

    Attributes:
        place: Where in the search it is built, for its name.
        recipe: How it is made, without its training.
    """

    place: str
    recipe: Recipe


def fit_exits_to(settings: RunSettings, config: Search) -> EarlyExits | None:
    """The exits that candidates may have; None if model, goal or data allow none."""
    task, exits = settings.task, config.exits
    if exits is None or len(task.val) < MIN_CALIBRATION_SAMPLES:
        return None
    try:
        check_fixed_sizes(settings.original, "early exits")
    except ModelError:
        return None
    fitted, _ = fit_exits(settings.original, task.goal, exits)
    drop = settings.budget.max_drop
    return fitted if fitted is None or drop is None else fitted.limit_drop(drop.value)


def propose_variants(leader: Trial, proposal: Proposal, planner: Planner, trials: Sequence[Trial],
                     config: Search, exits: EarlyExits) -> Iterator[ExitVariant]:
    """Variants of the leading candidate that may be better than it, the most promising first.

    Exits and cuts make a network faster or smaller, so that a larger one may be within the limits:
    it is planned with limits that are wider by what they are expected to save. What the file
    saves is measured like that of every candidate.

    Args:
        leader: The candidate.
        proposal: What it was made from.
        planner: Plans the larger networks.
        trials: What was measured so far.
        config: The settings of the search.
        exits: From `fit_exits_to`.
    """
    per_path = [name for name in _PER_PATH if getattr(planner.budget, name) is not None]
    wider = [("exits-wide", exits, relax(planner.budget, per_path, _SAVED))] if per_path else []
    if exits.count is not None and exits.calibration.policy != "patience":
        costs = [*per_path, *(["size"] if planner.budget.size is not None else [])]
        wider.append(("cut-wide", exits.replace(cut=exits.count),
                      relax(planner.budget, costs, _CUT)))
    for place, settings, budget in wider:
        answer = next(replace(planner, budget=budget).answers(proposal.factors, trials), None)
        recipe = None if answer is None else write_recipe("", answer, config)
        if recipe is not None and _network(recipe) != _network(leader.recipe):
            yield ExitVariant(place, recipe.replace(exits=settings))
    if per_path:
        yield ExitVariant("exits", leader.recipe.replace(exits=exits))


def relax(budget: Budget, names: Sequence[str], factor: float) -> Budget:
    """The budget with some limits on costs wider by a factor.

    Example:
        >>> relax(Budget(size="10 kB", macs="50 %"), ["macs"], 1.5).macs.value
        0.75
    """
    limits = {name: getattr(budget, name) for name in names}
    return budget.replace(**{name: limit.replace(value=factor * limit.value)
                             for name, limit in limits.items()})


def keep_choice(trial: Trial) -> Recipe:
    """The recipe of a trial with what its file decided about exits, to be trained longer.

    Example:
        >>> from edgewright.core import Figures
        >>> from edgewright.pipeline import ExitChoice
        >>> trial = Trial(name="a", recipe=Recipe(exits=EarlyExits(places=2)), figures=Figures(),
        ...               score=1.0, seconds=1.0, exits=ExitChoice(cut=1))
        >>> keep_choice(trial).exits.cut
        1
        >>> keep_choice(trial.replace(exits=ExitChoice(keeps_exits=False))).exits is None
        True
    """
    exits, choice = trial.recipe.exits, trial.exits
    if exits is None or choice is None or isinstance(exits.cut, int):
        return trial.recipe
    if choice.cut is not None:
        return trial.recipe.replace(exits=exits.replace(cut=choice.cut))
    return trial.recipe if choice.keeps_exits else trial.recipe.replace(exits=None)


def _network(recipe: Recipe) -> tuple[object, ...]:
    scheme = recipe.quantize
    return recipe.blocks, recipe.prune, None if scheme is None else scheme.layers
