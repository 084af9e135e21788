"""Answers to proposals, limits corrected by measurements, and budgets that cannot be met."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.allocation import Damages, JointSpace
from edgewright.core import Budget, Figures, Measurement
from edgewright.errors import BudgetError
from edgewright.pipeline import Recipe
from edgewright.program import Program
from edgewright.quantization import Quantization
from edgewright.search._candidate import Factors
from edgewright.search._planner import Planner
from edgewright.search._predictions import compare_predictions, correct_limits
from edgewright.search._space import make_space
from edgewright.search._trial import Trial


class Residual(nn.Module):
    """A residual block of two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return x + y


@pytest.fixture(scope="module")
def space() -> JointSpace:
    model = nn.Sequential(nn.Linear(8, 32), Residual(), Residual(), nn.Linear(32, 4))
    return make_space(Program.capture(model, torch.zeros(2, 8)), Quantization())


ORIGINAL = Figures.of(Measurement(name="size_bytes", value=20_000, kind="measured"),
                      Measurement(name="latency_ms", value=1.0, kind="measured"),
                      Measurement(name="macs", value=4_480, kind="modelled"))


def make_planner(space: JointSpace, budget: Budget) -> Planner:
    damages = Damages({block.name: 1.0 for block in space.blocks},
                      [np.linspace(1.0, 0.0, len(widths)) for widths in space.widths],
                      {weight: [0.1 * place for place in range(len(bits))]
                       for weight, bits in space.bits.items()})
    return Planner(space, damages, budget, ORIGINAL, None)


def unchanged(planner: Planner, *, measured_bytes: float | None = None) -> Trial:
    """The quantized original, whose file is as large as predicted unless given."""
    predicted = planner.predict_unchanged()
    figures = Figures.of(
        Measurement(name="size_bytes", value=measured_bytes or predicted["size"], kind="measured"),
        Measurement(name="macs", value=predicted["macs"], kind="modelled"))
    return Trial(name="quantized", recipe=Recipe(), figures=figures, score=0.9, seconds=1.0,
                 predicted=predicted)


def test_the_space_has_blocks_widths_and_bits(space: JointSpace) -> None:
    assert [block.name for block in space.blocks] == ["1", "2"]
    assert all(widths[-1] == 32 for widths in space.widths)
    assert space.bits["0.weight"] == (8,)
    assert space.bits["1.first.weight"] == (8, 4, 3, 2)


def test_answers_are_within_the_limits_and_differ(space: JointSpace) -> None:
    planner = make_planner(space, Budget(macs="60 %"))
    answers = list(planner.answers(Factors(), [unchanged(planner)]))
    assert len(answers) > 1
    assert all(answer.costs["macs"] <= 0.6 * 4_480 for answer in answers)
    assert len({(answer.removed, tuple(answer.widths.items())) for answer in answers}) > 1


@pytest.mark.parametrize(("factors", "removes"), [
    (Factors(blocks=0.01), True), (Factors(widths=0.01), False)])
def test_factors_decide_where_the_saving_comes_from(space: JointSpace, factors: Factors,
                                                    removes: bool) -> None:
    planner = make_planner(space, Budget(macs="60 %"))
    answer = next(planner.answers(factors, [unchanged(planner)]))
    assert bool(answer.removed) == removes
    assert bool(answer.widths) != removes


def test_a_file_larger_than_predicted_tightens_the_limit(space: JointSpace) -> None:
    planner = make_planner(space, Budget(size="4 kB"))
    expected = planner.predict_unchanged()["size"]
    fitting = correct_limits(planner.budget, ORIGINAL, [unchanged(planner)])
    larger = correct_limits(planner.budget, ORIGINAL,
                            [unchanged(planner, measured_bytes=2 * expected)])
    assert larger["size"] == pytest.approx(fitting["size"] / 2)
    assert fitting["size"] < 4_000


@pytest.mark.parametrize("shrink", [0.9, 0.6])
def test_a_proposal_limits_the_size_if_only_metrics_are_limited(space: JointSpace,
                                                                shrink: float) -> None:
    planner = make_planner(space, Budget(max_drop="1 %"))
    whole = planner.predict_unchanged()["size"]
    answer = next(planner.answers(Factors(shrink=shrink), [unchanged(planner)]))
    assert 0.8 * shrink * whole < answer.costs["size"] <= shrink * whole
    assert next(planner.answers(Factors(), [unchanged(planner)])).damage == 0


def test_a_proposal_below_what_can_be_reached_gets_the_smallest(space: JointSpace) -> None:
    planner = make_planner(space, Budget(max_drop="1 %"))
    answer = next(planner.answers(Factors(shrink=0.001), [unchanged(planner)]))
    assert answer.removed == ("1", "2")
    assert answer.costs["size"] < 0.2 * planner.predict_unchanged()["size"]


def test_an_impossible_limit_is_named_with_the_smallest_value(space: JointSpace) -> None:
    planner = make_planner(space, Budget(size="1 B"))
    with pytest.raises(BudgetError, match=r"size can be reduced to \d+ B, the limit is"):
        planner.check_feasible([unchanged(planner)])


def test_every_impossible_limit_is_named(space: JointSpace) -> None:
    planner = make_planner(space, Budget(size="1 B", macs="1"))
    with pytest.raises(BudgetError, match=r"size can be reduced to .*; macs can be reduced to"):
        planner.check_feasible([unchanged(planner)])


def test_a_feasible_budget_passes(space: JointSpace) -> None:
    planner = make_planner(space, Budget(size="4 kB", macs="80 %"))
    planner.check_feasible([unchanged(planner)])


def test_predictions_are_compared_with_measurements() -> None:
    def at(predicted: float, measured: float) -> Trial:
        figures = Figures.of(Measurement(name="size_bytes", value=measured, kind="measured"))
        return Trial(name=str(predicted), recipe=Recipe(), figures=figures, score=0.0, seconds=1.0,
                     predicted={"size": predicted})

    error, correlation = compare_predictions(
        [at(90, 100), at(220, 200), at(300, 300)], {"size": "size_bytes"})["size"]
    assert error == pytest.approx((0.1 + 0.1) / 3)
    assert correlation == 1.0
