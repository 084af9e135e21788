"""A recipe made to fit one model and one budget, saying what was changed."""

from __future__ import annotations

from typing import Final

from edgewright.channels import find_branches, find_groups
from edgewright.core import Budget, Figures, Measurement, format_skip_reasons
from edgewright.exits import fitting_exits
from edgewright.pipeline._admit import admit_scheme
from edgewright.pipeline._bundling import modelled_energy_mj
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._scheme import scheme_at_first
from edgewright.pipeline.stages import computed_costs, plan_ratio, stored_bits
from edgewright.program import Costs, Program, fold_batch_norm
from edgewright.pruning import ChannelPruning

_WORTHWHILE: Final = 0.02  # less than this share of the MACs is not worth a stage


def adapt(recipe: Recipe, program: Program, budget: Budget) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with the pruning the budget asks for, and without what the model has no place for.

    Returns:
        The recipe to run, and each change in words.

    Raises:
        BudgetError: Even the smallest program of this model breaks a limit.
        UsageError: The scheme of the quantisation breaks a rule, or does not fit the model.
    """
    recipe, blocks_note = _with_blocks(recipe, program)
    recipe, exits_note = _with_exits(recipe, program, budget)
    admit_scheme(program, recipe)
    pruning, pruning_note = _pruning(recipe, program, budget)
    left_out = recipe.prune is not None and pruning is None and recipe.blocks is None
    adapted = recipe.replace(prune=pruning, recover=None if left_out else recipe.recover)
    return adapted, tuple(filter(None, (pruning_note, blocks_note, exits_note)))


def _with_blocks(recipe: Recipe, program: Program) -> tuple[Recipe, str]:
    """The recipe without its block stage where the graph has no place for one."""
    if recipe.blocks is None or find_branches(program):
        return recipe, ""
    return (recipe.replace(blocks=None),
            "blocks left out: the graph has no residual branches")


def _with_exits(recipe: Recipe, program: Program, budget: Budget) -> tuple[Recipe, str]:
    """The recipe with as many exits as the graph has places for, no less exact than allowed."""
    exits, note = recipe.exits, ""
    if exits is not None:
        exits, note = fitting_exits(program, exits)
    if exits is not None and budget.max_drop is not None:
        exits = exits.replace(max_drop=min(exits.max_drop, budget.max_drop.value))
    return recipe.replace(exits=exits), note


def _pruning(recipe: Recipe, program: Program, budget: Budget) -> tuple[ChannelPruning | None, str]:
    pruning = recipe.prune or ChannelPruning()
    groups = find_groups(program, pruning.ignore)
    costs, scheme = fold_batch_norm(program).costs(), scheme_at_first(recipe, program)
    stored = stored_bits(program, scheme)
    plan = plan_ratio(program, groups, budget.limits(_modelled(costs)), stored=stored,
                      energy_mj=modelled_energy_mj(computed_costs(program, costs, scheme, stored)),
                      legal=pruning.legal_widths)
    if recipe.prune is None:
        return None, ""
    if pruning.target != "macs" and groups.groups and not plan.ratio:
        return pruning, ""
    ratio = min(max(plan.ratio, pruning.ratio), plan.most)
    if ratio < _WORTHWHILE:
        left_out = "pruning" if recipe.blocks is not None else "pruning and recovery"
        return None, (f"{left_out} left out: {plan.most:.1%} of the macs could go; kept whole: "
                      f"{format_skip_reasons(groups.kept)}")
    changed = pruning.replace(ratio=ratio, target="macs")
    if ratio < pruning.ratio:
        return changed, f"pruning lowered to {ratio:.0%} of the macs: no more can go"
    if ratio > pruning.ratio:
        return changed, f"pruning raised to {ratio:.0%} of the macs by the limit on {plan.binding}"
    return pruning, ""


def _modelled(costs: Costs) -> Figures:
    """What the original's figures will be, for limits that are a share of them."""
    figures = {"size_bytes": costs.packed_bytes, "macs": costs.macs,
               "energy_mj": modelled_energy_mj(costs), "ram_bytes": costs.peak_activation_bytes}
    return Figures.of(*(Measurement.model_validate({"name": name, "value": value,
                                                    "kind": "modelled"})
                        for name, value in figures.items()))
