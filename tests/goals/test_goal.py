"""How outputs are named and selected, and how a goal is identified."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from torchmetrics.image import PeakSignalNoiseRatio

from edgewright.errors import ModelError
from edgewright.goals import (
    Classification,
    CustomGoal,
    MultiTask,
    Prediction,
    Regression,
    Values,
    check_prediction,
    named_outputs,
    select_output,
)
from edgewright.goals._identity import identify
from edgewright.goals._outputs import describe_shape
from edgewright.task import load_task

ONE, TWO = torch.zeros(3, 2), torch.ones(3, 4)
Pair = namedtuple("Pair", "logits hidden")


@pytest.mark.parametrize(("outputs", "names"), [
    (ONE, [""]), ((ONE, TWO), ["0", "1"]), ([ONE], ["0"]), ({"a": ONE, 5: TWO}, ["a", "5"]),
    (OrderedDict(b=ONE, a=TWO), ["b", "a"]), (Pair(ONE, TWO), ["0", "1"]), ({}, []), (None, [""]),
])
def test_outputs_have_names(outputs: Any, names: list[str]) -> None:
    assert list(named_outputs(outputs)) == names


@pytest.mark.parametrize(("outputs", "name", "key"), [
    (ONE, None, ""), ((ONE,), None, "0"), ({"a": ONE}, None, "a"), ({"a": ONE, "b": TWO}, "a", "a"),
    ((TWO, ONE), 1, "1"), ((TWO, ONE), "1", "1"), (Pair(ONE, TWO), 0, "0"),
])
def test_an_output_is_selected(outputs: Any, name: Any, key: str) -> None:
    found = select_output(outputs, name, "x")
    assert found[0] == key
    assert found[1] is ONE


@pytest.mark.parametrize(("outputs", "name", "message"), [
    ((ONE, TWO), None, "the model returns 2 outputs (0: (3, 2), 1: (3, 4)), and the goal mine does "
                       "not say which is the prediction; name it: output='0', or give one goal per "
                       "output: goal={name: goal, ...}"),
    ({"a": ONE, "b": None}, None, "the model returns 2 outputs (a: (3, 2), b: NoneType), and the "
                                  "goal mine does not say which is the prediction; name it: "
                                  "output='a', or give one goal per output: goal={name: goal, ...}"),
    ({"a": ONE}, "b", "the goal mine expects the output 'b', but the model returns 'a'"),
    ((ONE, TWO), 2, "the goal mine expects the output '2', but the model returns '0', '1'"),
    ((), None, "the goal mine expects the output, but the model returns nothing"),
    ("text", None, "the model is a str; expected a tensor"),
    ({"a": [ONE]}, "a", "its output 'a' is a list; expected a tensor"),
])
def test_what_cannot_be_selected_is_described(outputs: Any, name: Any, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        select_output(outputs, name, "mine")
    assert str(caught.value) == message


@pytest.mark.parametrize(("tensor", "shape"), [
    (torch.zeros(3, 5), "(N, 5) float32"), (torch.zeros(3), "(N,) float32"),
    (torch.zeros(()), "() float32"), (torch.zeros(5, 3).long(), "(5, 3) int64"),
])
def test_shapes_are_described_with_the_batch(tensor: torch.Tensor, shape: str) -> None:
    assert describe_shape(tensor, 3) == shape


def test_a_prediction_is_floating_point_with_the_batch_first() -> None:
    check_prediction(Prediction("", ONE, Values()), 3)
    for wrong in (ONE.long(), ONE.T, torch.tensor(1.0)):
        with pytest.raises(ModelError, match=r"the output 'a' of the model is .*; expected floating "
                                             "point with the batch as first dimension"):
            check_prediction(Prediction("a", wrong, Values()), 3)


GOALS = """
import torch, torchmetrics, numpy
from edgewright.goals import *
def loss(outputs, targets): return outputs.sum()
for goal in (Classification(class_weights=torch.tensor([1.0, 0.25])),
             Segmentation(ignore_index=255, class_weights=numpy.array([1.0, 0.5])),
             MultiTask({"b": Regression("l1", unit="years"), "a": Binary(positive_weight=3)},
                       {"a": 0.5}),
             CustomGoal(loss, {"mae": torchmetrics.MeanAbsoluteError()}, kinds={"x": Values()}),
             Regression(metric={"mae": torchmetrics.MeanAbsoluteError()}), Reconstruction()):
    print(goal.identity)
"""


def test_an_identity_is_the_same_in_every_process() -> None:
    runs = [subprocess.run([sys.executable, "-c", GOALS], capture_output=True, text=True,
                           check=True, env=None).stdout for _ in range(2)]
    assert runs[0] == runs[1]
    assert "0x" not in runs[0]
    assert "class_weights=(1.0, 0.25)" in runs[0]
    assert "CustomGoal(loss_function=__main__.loss@" in runs[0]
    assert "unit='years'" in runs[0]


def test_an_identity_tells_settings_apart() -> None:
    goals = [Classification(), Classification(label_smoothing=0.1), Classification(output=1),
             Classification(output="1"), Classification(class_weights=[1.0, 2.0]),
             Classification(class_weights=[2.0, 1.0]),
             Classification(class_weights=np.array([3.0, 1.0])),
             Classification(class_weights=torch.tensor([4.0, 1.0])),
             Regression(), Regression("l1"), Regression(tolerance=0.1), Regression(unit="mm"),
             MultiTask({"a": Regression()}), MultiTask({"a": Regression("l1")}),
             MultiTask({"b": Regression()}), MultiTask({"a": Regression()}, {"a": 2.0})]
    assert len({goal.identity for goal in goals}) == len(goals)
    same = [Classification(class_weights=kind) for kind in (
        (1.0, 2.0), [1.0, 2.0], np.array([1.0, 2.0]), torch.tensor([1.0, 2.0]))]
    assert len({goal.identity for goal in same}) == 1


def test_functions_and_objects_are_named_by_module_and_name() -> None:
    assert identify(len) == "builtins.len"
    assert identify(CustomGoal) == "edgewright.goals._custom.CustomGoal"
    assert identify(object()) == "builtins.object"
    assert identify({"a": (1, None, [2.5, "x"])}) == "{'a': (1, None, (2.5, 'x'))}"


def test_an_identity_tells_functions_and_metrics_apart_by_what_they_do() -> None:
    def scaled(factor: float) -> CustomGoal:
        return CustomGoal(lambda outputs, targets: factor * outputs.sum(), {"mae": MAE})

    MAE = torchmetrics.MeanAbsoluteError()  # noqa: N806
    other = CustomGoal(lambda outputs, targets: 2.0 * outputs.mean(), {"mae": MAE})
    assert scaled(2.0).identity == scaled(2.0).identity
    assert len({scaled(2.0).identity, scaled(3.0).identity, other.identity}) == 3
    goals = [Regression(metric={"psnr": PeakSignalNoiseRatio(data_range=size)})
             for size in (1.0, 255.0, 1.0)]
    assert goals[0].identity == goals[2].identity != goals[1].identity


def test_an_identity_does_not_change_when_a_file_is_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("""
import torch
import edgewright as ew
class Own:
    higher_is_better = False
    def update(self, outputs, targets): pass
    def compute(self): return 0.0
    def reset(self): pass
def make_task():
    x = torch.rand(8, 2)
    goal = ew.CustomGoal(lambda outputs, targets: outputs.sum(), {"own": Own()})
    return ew.Task((x, None), test=(x, None), goal=goal)
""")
    first, second = (load_task(f"{file}:make_task").goal.identity for _ in range(2))
    assert first == second
