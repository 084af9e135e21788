"""The decoding steps that each goal names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgewright.core import (
    Answers,
    ClassMask,
    ClassProbabilities,
    DecodeStep,
    Numbers,
    UnitVector,
)
from edgewright.goals import (
    Binary,
    Classification,
    CustomGoal,
    Embedding,
    Goal,
    MultiLabel,
    MultiTask,
    Reconstruction,
    Regression,
    Segmentation,
    as_goal,
)
from edgewright.goals._regression import value_metrics

ONE, TWO = torch.zeros(2, 3), torch.zeros(2, 4)
METRIC = {"mae": value_metrics("")[0].make()}
CUSTOM = CustomGoal(lambda outputs, targets: outputs.sum(), METRIC)


@pytest.mark.parametrize(("goal", "step"), [
    (Classification(), ClassProbabilities()), (Segmentation(), ClassMask()),
    (Binary(positive_weight=3), Answers()), (MultiLabel(), Answers()),
    (Regression(unit="years"), Numbers(unit="years")), (Reconstruction(), Numbers()),
    (Embedding(), UnitVector()), (CUSTOM, Numbers()),
], ids=lambda value: getattr(value, "name", ""))
def test_each_goal_names_its_step(goal: Goal, step: DecodeStep) -> None:
    assert goal.decoding(ONE) == (step,)


@pytest.mark.parametrize(("goal", "outputs", "name"), [
    (Classification(output="b"), {"a": ONE, "b": TWO}, "b"), (Embedding(output=1), (ONE, TWO), "1"),
    (Classification(output="b"), ONE, ""), (Regression(), {"a": ONE}, "a")])
def test_a_step_names_the_prediction(goal: Goal, outputs: Any, name: str) -> None:
    assert [step.outputs for step in goal.decoding(outputs)] == [(name,)]


def test_several_goals_name_their_outputs() -> None:
    goal = as_goal({"age": Regression(unit="y"), "sex": "classification"})
    assert goal.decoding({"age": ONE, "sex": TWO, "more": TWO}) == (
        Numbers(output="age", unit="y"), ClassProbabilities(output="sex"))
    assert MultiTask({"age": CUSTOM}).decoding({"age": {"a": ONE, "b": TWO}}) == (
        Numbers(output="age.a"), Numbers(output="age.b"))


def test_a_custom_goal_keeps_numbers_of_the_outputs_it_lists() -> None:
    outputs = {"a": ONE, "b": TWO}
    assert CUSTOM.decoding(outputs) == (Numbers(output="a"), Numbers(output="b"))
    listed = CustomGoal(CUSTOM.loss_function, METRIC, kinds={"b": Classification().kind})
    assert listed.decoding(outputs) == (Numbers(output="b"),)
