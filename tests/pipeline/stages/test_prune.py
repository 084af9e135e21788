"""Pruning is adjusted to a budget: weights are priced as the file will store them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import edgewright as ew
from edgewright.core import Budget
from edgewright.errors import UsageError
from edgewright.goals import Classification
from edgewright.pipeline import Recipe
from edgewright.pipeline.stages import STAGES, adjust_recipe, check_recipe
from edgewright.pipeline.stages._stored_bits import predict_stored_bits
from edgewright.quantization import MixedPrecision, Precision

PRUNING = ew.ChannelPruning(ratio=0.1, round_to=1)


def planned(program: ew.Program, budget: Budget, **scheme: Any) -> float:
    recipe = Recipe(prune=PRUNING, quantize=ew.Quantization(**scheme))
    pruning = adjust_recipe(recipe, program, budget, Classification())[0].prune
    assert pruning is not None
    return pruning.ratio


def stored_bytes(program: ew.Program, bits: Mapping[str, float]) -> float:
    """Of all parameters, by hand."""
    aside = ("running_mean", "running_var")
    return sum(tensor.numel() * bits.get(name, 32) / 8
               for name, tensor in program.state_dict().items() if not name.endswith(aside))


def test_fewer_bits_leave_more_channels(trained_program: ew.Program) -> None:
    whole = stored_bytes(trained_program, predict_stored_bits(trained_program, ew.Quantization()).most)
    budget = Budget(size=f"{round(0.6 * whole)} B")
    ratios = [planned(trained_program, budget, **scheme) for scheme in (
        {"layers": {"one": None}}, {}, {"weights": 4}, {"weights": 4, "first_last_bits": None})]
    assert ratios[0] > ratios[1] > ratios[2] > ratios[3] >= PRUNING.ratio


def test_no_pruning_is_needed_if_the_bits_meet_the_budget(
        trained_program: ew.Program) -> None:
    whole = stored_bytes(trained_program, predict_stored_bits(trained_program, ew.Quantization()).most)
    budget = Budget(size=f"{round(0.6 * whole)} B")
    mixed = {size: MixedPrecision(size=f"{round(size * whole)} B") for size in (0.5, 0.6)}
    assert planned(trained_program, budget, mixed=mixed[0.5]) == PRUNING.ratio
    assert planned(trained_program, budget, mixed=mixed[0.6]) == planned(trained_program, budget)


def test_layers_of_later_exits_may_have_bits(trained_program: ew.Program) -> None:
    recipe = Recipe(prune=PRUNING, exits=ew.EarlyExits(places=1), quantize=ew.Quantization(
        layers={"exits": Precision(weights=4)}))
    assert adjust_recipe(recipe, trained_program, Budget(size="90 %"), Classification())[0].prune == PRUNING


def test_explicit_widths_stay_under_any_budget(trained_program: ew.Program) -> None:
    recipe = Recipe(prune=ew.ChannelPruning(widths={"stem": 12}), recover=ew.Training())
    for budget in (Budget(), Budget(size="1 B"), Budget(macs="10 %")):
        adjusted = adjust_recipe(recipe, trained_program, budget, Classification())
        assert adjusted == (recipe, ())


def test_widths_that_do_not_fit_are_refused_before_the_run(trained_program: ew.Program) -> None:
    check_recipe(Recipe(prune=ew.ChannelPruning(widths={"stem": 12})), trained_program)
    with pytest.raises(UsageError, match=re.escape("widths: 'stam' is no group; similar names: ")):
        check_recipe(Recipe(prune=ew.ChannelPruning(widths={"stam": 12})), trained_program)


@pytest.mark.parametrize(("widths", "words"), [
    ({"a": 8, "b": 16, "c": 9}, "keep 8 to 16 channels in 3 groups (APoZ)"),
    ({"a": 8, "b": 8}, "keep 8 channels in 2 groups (APoZ)"),
    ({"a": 1}, "keep 1 channel in 1 group (APoZ)")])
def test_the_note_describes_explicit_widths(widths: dict[str, int], words: str) -> None:
    (stage,) = (stage for stage in STAGES if stage.name == "prune")
    assert stage.describe(ew.ChannelPruning(criterion="apoz", widths=widths)) == (words,)


def test_a_recipe_with_widths_round_trips(tmp_path: Path) -> None:
    recipe = Recipe(prune=ew.ChannelPruning(
        widths={"layer1.0.conv1": 8, "q.weight by 4": 2, "0": 3}, criterion="magnitude"))
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert Recipe.load(tmp_path / "r.yaml") == recipe
