"""The stage that removes channels, as many as recipe and budget require."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, final

from edgewright.channels import ChannelGroups, find_groups, resolve_widths
from edgewright.core import Budget, Figures, Measurement, format_skip_reasons
from edgewright.goals import Goal
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._segments import modelled_energy_mj
from edgewright.pipeline.stages._context import StageContext
from edgewright.pipeline.stages._plan import Plan, plan_ratio
from edgewright.pipeline.stages._scheme import scheme_before_exits
from edgewright.pipeline.stages._stage import AdjustedRecipe, Stage
from edgewright.pipeline.stages._stored_bits import predict_computed_costs, predict_stored_bits
from edgewright.program import Costs, Program, fold_batch_norm
from edgewright.pruning import ChannelPruning, prune

_WORTHWHILE: Final = 0.02  # less than this share of the MACs is not worth a stage
_CRITERIA: Final = {"apoz": "APoZ", "fisher": "Fisher", "gauss_newton": "Gauss-Newton",
                    "lamp": "LAMP", "obd": "OBD", "taylor": "Taylor"}


@final
class Prune(Stage[ChannelPruning]):
    """Removes channels.

    It is adjusted last, because it covers what the other stages leave above the budget.
    """

    name: ClassVar[str] = "prune"
    adjusts_last: ClassVar[bool] = True

    def config_of(self, recipe: Recipe) -> ChannelPruning | None:
        """Return the recipe's channel pruning."""
        return recipe.prune

    def check(self, program: Program, config: ChannelPruning) -> None:
        """Refuse widths that do not fit the program."""
        if config.widths is not None:
            resolve_widths(program, find_groups(program, config.ignore), config.widths)

    def adjust_to(self, recipe: Recipe, program: Program, budget: Budget,
               goal: Goal) -> AdjustedRecipe:  # noqa: ARG002 - as others do
        """Choose the share of the multiply-accumulates to remove; explicit widths stay.

        Raises:
            BudgetError: Even the smallest program of this model breaks a limit.
        """
        pruning = recipe.prune or ChannelPruning()
        if pruning.widths is not None:
            return AdjustedRecipe(recipe)
        groups = find_groups(program, pruning.ignore)
        plan = _make_plan(recipe, program, budget, groups, pruning)
        if recipe.prune is None or (pruning.target != "macs" and groups.groups and not plan.ratio):
            return AdjustedRecipe(recipe)
        ratio = min(max(plan.ratio, pruning.ratio), plan.most)
        if ratio < _WORTHWHILE:
            return _omit_pruning(recipe, groups, plan)
        if ratio == pruning.ratio:
            return AdjustedRecipe(recipe)
        changed = recipe.replace(prune=pruning.replace(ratio=ratio, target="macs"))
        share = f"{100 * ratio:.0f} % of the MACs"
        if ratio < pruning.ratio:
            return AdjustedRecipe(changed, f"pruning lowered to {share}: no more can be removed")
        return AdjustedRecipe(changed,
                              f"pruning raised to {share} to meet the limit on "
                              f"{_format_quantity(str(plan.binding))}")

    def describe(self, config: ChannelPruning) -> tuple[str, ...]:
        """Describe how much is removed, or how much is kept, and by which criterion.

        Example:
            >>> Prune().describe(ChannelPruning(ratio=0.5))
            ('remove 50 % of the MACs (Gauss-Newton)',)
            >>> Prune().describe(ChannelPruning(widths={"layer1.0.conv1": 8, "conv1": 16}))
            ('keep 8 to 16 channels in 2 groups (Gauss-Newton)',)
        """
        criterion = _CRITERIA.get(config.criterion, config.criterion.replace("_", " "))
        if config.widths is not None:
            return (f"{_format_widths(config.widths)} ({criterion})",)
        share = f"{100 * config.ratio:.0f} % of the {_format_quantity(config.target)}"
        return (f"remove {share} ({criterion})",)

    def run(self, program: Program, config: ChannelPruning, context: StageContext) -> Program:
        """Remove the channels that matter least."""
        return prune(program, context.task, config, seed=context.seed)


def _format_widths(widths: Mapping[str, int]) -> str:
    fewest, most = min(widths.values()), max(widths.values())
    kept = f"{fewest} to {most}" if fewest < most else str(most)
    return (f"keep {kept} channel{'s' * (most > 1)} in {len(widths)} "
            f"group{'s' * (len(widths) > 1)}")


def _format_quantity(quantity: str) -> str:
    return "MACs" if quantity == "macs" else quantity


def _make_plan(recipe: Recipe, program: Program, budget: Budget, groups: ChannelGroups,
          pruning: ChannelPruning) -> Plan:
    """Plan pruning for the budget, with weights stored as in the recipe's scheme."""
    costs, scheme = fold_batch_norm(program).costs(), scheme_before_exits(recipe, program)
    stored = predict_stored_bits(program, scheme)
    limits = {name: limit.bound for name, limit in budget.limits(_modelled(costs)).items()}
    computed = predict_computed_costs(program, costs, scheme, stored)
    return plan_ratio(program, groups, limits, stored=stored,
                      energy_mj=modelled_energy_mj(computed), legal=pruning.legal_widths)


def _omit_pruning(recipe: Recipe, groups: ChannelGroups, plan: Plan) -> AdjustedRecipe:
    """Remove pruning from the recipe, and recovery if no blocks are removed either."""
    alone = recipe.blocks is not None
    what = "pruning" if alone else "pruning and recovery"
    return AdjustedRecipe(
        recipe.replace(prune=None, recover=recipe.recover if alone else None),
        f"{what} left out: only {100 * plan.most:.1f} % of the MACs can be removed; not pruned: "
        f"{format_skip_reasons(groups.kept)}")


def _modelled(costs: Costs) -> Figures:
    """The original's modelled figures, for relative limits."""
    figures = {"size_bytes": costs.packed_bytes, "macs": costs.macs,
               "energy_mj": modelled_energy_mj(costs), "ram_bytes": costs.peak_activation_bytes}
    return Figures.of(*(Measurement.model_validate({"name": name, "value": value,
                                                    "kind": "modelled"})
                        for name, value in figures.items()))
