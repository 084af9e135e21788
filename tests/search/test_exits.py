"""Variants of the best candidate with exits, or cut at one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.allocation import Damages, JointSpace
from edgewright.core import Budget, Figures, Measurement
from edgewright.exits import EarlyExits, ExitCalibration, JointTraining
from edgewright.pipeline import ExitChoice, Recipe, RunLog, RunSettings
from edgewright.program import Program
from edgewright.search._candidate import Factors, Proposal
from edgewright.search._exits import fit_exits_to, keep_choice, propose_variants
from edgewright.search._planner import Planner
from edgewright.search._recipes import lengthen, write_recipe
from edgewright.search._space import make_space
from edgewright.search._trial import Trial
from edgewright.task import Task

CONFIG = ew.Search()
PROPOSAL = Proposal(number=0, factors=Factors())


def chain(outputs: int = 4) -> Program:
    torch.manual_seed(0)
    hidden = [layer for _ in range(4) for layer in (nn.Linear(32, 32), nn.ReLU())]
    return Program.capture(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), *hidden,
                                         nn.Linear(32, outputs)), torch.zeros(2, 8))


def settings_of(program: Program, goal: Any = "classification", *, samples: int = 100,
                budget: Budget | None = None) -> RunSettings:
    x = torch.randn(samples, 8)
    y = torch.randn(samples, 1) if goal == "regression" else torch.arange(samples) % 4
    task = Task((x, y), (x + 1, y), (x + 2, y), goal=goal)
    return RunSettings(program, task, budget or Budget(), 0, "net", RunLog(quiet=True))


def make_planner(program: Program, budget: Budget) -> Planner:
    space: JointSpace = make_space(program, ew.Quantization())
    damages = Damages({}, [np.linspace(1.0, 0.0, len(widths)) for widths in space.widths],
                      {weight: [0.1 * place for place in range(len(bits))]
                       for weight, bits in space.bits.items()})
    original = Figures.of(Measurement(name="size_bytes", value=20_000, kind="measured"),
                          Measurement(name="macs", value=program.costs().macs, kind="modelled"))
    return Planner(space, damages, budget, original, None)


def lead(planner: Planner) -> tuple[Trial, list[Trial]]:
    """The best candidate under the limits, and the trials so far."""
    figures = planner.original
    quantized = Trial(name="quantized", recipe=Recipe(), figures=figures, score=1.0, seconds=1.0,
                      predicted=planner.predict_unchanged())
    answer = next(planner.answers(Factors(), [quantized]))
    return Trial(name="00-1", recipe=write_recipe("", answer, CONFIG), proposal=PROPOSAL,
                 figures=figures, score=0.9, seconds=1.0), [quantized]


def variants(budget: Budget, exits: EarlyExits) -> tuple[Trial, dict[str, Recipe]]:
    planner = make_planner(chain(), budget)
    leader, trials = lead(planner)
    found = propose_variants(leader, PROPOSAL, planner, trials, CONFIG, exits)
    return leader, {variant.place: variant.recipe for variant in found}


def channels(recipe: Recipe) -> int:
    assert recipe.prune is not None
    assert recipe.prune.widths is not None
    return sum(recipe.prune.widths.values())


def test_exits_and_cuts_allow_a_larger_network() -> None:
    leader, found = variants(Budget(macs="40 %"), EarlyExits(places=2))
    assert list(found) == ["exits-wide", "cut-wide", "exits"]
    assert channels(found["exits-wide"]) > channels(leader.recipe)
    assert channels(found["cut-wide"]) > channels(found["exits-wide"])
    assert found["exits"].prune == leader.recipe.prune
    cuts = {place: recipe.exits.cut for place, recipe in found.items() if recipe.exits}
    assert cuts == {"exits-wide": "auto", "cut-wide": 2, "exits": "auto"}


def test_exits_make_no_file_smaller() -> None:
    _, found = variants(Budget(size="20 %"), EarlyExits(places=2))
    assert list(found) == ["cut-wide"]


def test_limits_that_do_not_bind_leave_the_leader_alone() -> None:
    _, found = variants(Budget(macs="150 %"), EarlyExits(places=2))
    assert list(found) == ["exits"]


def test_patience_needs_both_exits() -> None:
    _, found = variants(Budget(macs="40 %"), EarlyExits(places=2, calibration=ExitCalibration(
        policy="patience")))
    assert list(found) == ["exits-wide", "exits"]


@pytest.mark.parametrize(("make", "config"), [
    (lambda: settings_of(chain(1), "regression"), CONFIG),
    (lambda: settings_of(chain(), samples=40), CONFIG),
    (lambda: settings_of(chain()), CONFIG.replace(exits=None)),
    (lambda: settings_of(Program.capture(nn.Linear(8, 4), torch.zeros(2, 8))), CONFIG)],
    ids=["no confidence", "few samples", "not wanted", "no place"])
def test_what_cannot_have_exits_is_not_tried(make: Callable[[], RunSettings],
                                             config: ew.Search) -> None:
    assert fit_exits_to(make(), config) is None


def test_inputs_of_varying_size_have_no_exits() -> None:
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.ReLU(),
                          nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3))
    program = Program.capture(model, torch.zeros(2, 4, 20), dynamic={"input": {2: (16, 400)}})
    assert fit_exits_to(settings_of(program), CONFIG) is None


def test_exits_may_cost_no_more_than_the_budget_allows() -> None:
    fitted = fit_exits_to(settings_of(chain(), budget=Budget(max_drop="0.1 %")), CONFIG)
    assert fitted is not None
    assert fitted.calibration.max_drop == pytest.approx(0.001)
    assert fitted.count == 2


def test_a_third_of_the_training_is_with_the_exits() -> None:
    recipe = lengthen(Recipe(exits=EarlyExits(places=2)), CONFIG, 90.0)
    assert recipe.recover is not None
    assert recipe.exits is not None
    assert isinstance(recipe.exits.training, JointTraining)
    assert (recipe.recover.time, recipe.exits.training.settings.time) == (60.0, 30.0)
    plain = lengthen(Recipe(), CONFIG, 90.0)
    assert plain.recover is not None
    assert plain.recover.time == 90.0


def test_longer_training_starts_from_what_the_file_decided() -> None:
    def kept(choice: ExitChoice | None, **settings: Any) -> EarlyExits | None:
        recipe = Recipe(exits=EarlyExits(places=2, **settings))
        return keep_choice(Trial(name="a", recipe=recipe, figures=Figures(), score=1.0,
                                 seconds=1.0, exits=choice)).exits

    assert kept(ExitChoice()) == EarlyExits(places=2)
    assert kept(ExitChoice(cut=1, keeps_exits=False)) == EarlyExits(places=2, cut=1)
    assert kept(ExitChoice(keeps_exits=False)) is None
    assert kept(ExitChoice(keeps_exits=False), cut=2) == EarlyExits(places=2, cut=2)
    assert kept(None) == EarlyExits(places=2)
