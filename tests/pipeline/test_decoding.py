"""Each kind of answer, from a trained model through `compress` to `predict`, at toy size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.core import (
    Answers,
    Boxes,
    ClassMask,
    ClassProbabilities,
    DecodeStep,
    Numbers,
    Preprocessing,
    UnitVector,
)
from edgewright.errors import ModelError, UsageError
from edgewright.goals import Goal, NamedMetric, Origin, Prediction, Values, named_outputs
from edgewright.goals._regression import value_metrics
from edgewright.pipeline import Result
from edgewright.pipeline._decode_steps import find_decode_steps
from edgewright.program import Program
from edgewright.runtime import AnswerSet, ClassRanking, Detections, Mask, Quantity, Session, Vector

ROWS = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
PICTURES = torch.randint(0, 256, (120, 3, 8, 8), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(1))
RECIPE = Preprocessing(channels=3, height=8, width=8, mean=(0.5,) * 3, std=(0.5,) * 3)

Compressed = Callable[..., tuple[Result, Session]]


class Dense(nn.Module):
    """Linear maps of the inputs: one, or several by name."""

    def __init__(self, sizes: int | dict[str, int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(8, 16)
        one = sizes if isinstance(sizes, int) else 1
        self.head = nn.Linear(16, one)
        self.heads = nn.ModuleDict({} if isinstance(sizes, int) else {
            name: nn.Linear(16, size) for name, size in sizes.items()})

    def forward(self, x: Tensor) -> Any:
        hidden = self.body(x).relu()
        if len(self.heads):
            return {name: head(hidden) for name, head in self.heads.items()}
        return self.head(hidden)


@pytest.fixture
def compressed(tmp_path: Path) -> Compressed:
    def run(model: nn.Module, data: Any, goal: Any, **options: Any) -> tuple[Result, Session]:
        x, y = data
        task = ew.Task((x, y), test=(x, y), goal=goal, **options)
        result = ew.compress(model.eval(), task, recipe="fast", out=tmp_path / "run", quiet=True)
        return result, ew.load(result.bundle)

    return run


def array(values: Tensor) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def test_classes(compressed: Compressed) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(8, 3))
    labels = torch.arange(120) % 3
    result, session = compressed(model, (PICTURES, labels), "classification",
                                 preprocessing=RECIPE, classes=("a", "b", "c"))
    assert result.manifest.model.decoding == (ClassProbabilities(output="output_0"),)
    pixels = PICTURES[0].permute(1, 2, 0).contiguous().numpy()
    found = session.predict(pixels)
    assert isinstance(found, ClassRanking)
    assert found.label == "abc"[session(*session.read(pixels)).output.argmax()]
    assert sum(one.probability for one in found.top(3)) == pytest.approx(1)


def test_a_mask(compressed: Compressed) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    x = PICTURES / 255
    result, session = compressed(model, (x, (x.mean(1) * 3).long().clamp(0, 2)), "segmentation",
                                 classes=("dark", "grey", "light"))
    assert result.manifest.model.decoding == (ClassMask(output="output_0"),)
    found = session.predict(array(x[:2]))
    raw = session(array(x[:2])).output
    for mask, logits in zip(found, raw, strict=True):
        assert isinstance(mask, Mask)
        np.testing.assert_array_equal(mask.indices, logits.argmax(axis=0))
        assert set(mask.shares) <= {"dark", "grey", "light"}


@pytest.mark.parametrize(("size", "goal"), [(1, "binary"), (3, "multi-label")])
def test_answers(compressed: Compressed, size: int, goal: str) -> None:
    names = ("no", "yes") if size == 1 else ("a", "b", "c")
    targets = (ROWS[:, :size] > 0).int()
    result, session = compressed(Dense(size), (ROWS, targets), goal, classes=names)
    assert result.manifest.model.decoding == (Answers(output="output_0"),)
    found = session.predict(array(ROWS[:9]))
    assert all(isinstance(one, AnswerSet) for one in found)
    np.testing.assert_array_equal([one.yes for one in found], session(array(ROWS[:9])).output > 0)
    assert [one.label for one in found[0]] == list(names[-size:])


def test_numbers(compressed: Compressed) -> None:
    result, session = compressed(Dense(1), (ROWS, ROWS.sum(1)), ew.Regression(unit="years"))
    assert result.manifest.model.decoding == (Numbers(output="output_0", unit="years"),)
    found = session.predict(array(ROWS[:3]))
    assert [type(one) for one in found] == [Quantity] * 3
    assert [float(one) for one in found] == session(array(ROWS[:3])).output[:, 0].tolist()
    assert found[0].unit == "years"


def test_vectors(compressed: Compressed) -> None:
    result, session = compressed(Dense(6), (ROWS, (ROWS[:, 0] > 0).long()), "embedding")
    assert result.manifest.model.decoding == (UnitVector(output="output_0"),)
    first, second = session.predict(array(ROWS[:2]))
    assert isinstance(first, Vector)
    assert first.cosine(first) == pytest.approx(1, abs=1e-6)
    assert first.cosine(second) < 1


def test_several_at_once_and_an_auxiliary_output(compressed: Compressed) -> None:
    targets = {"age": ROWS.sum(1), "sex": torch.arange(200) % 2}
    goal = {"age": ew.Regression(unit="years"), "sex": "classification"}
    result, session = compressed(Dense({"aux": 3, "sex": 2, "age": 1}), (ROWS, targets), goal,
                                 classes=("f", "m"))
    assert set(result.manifest.model.decoding) == {
        Numbers(output="age", unit="years"), ClassProbabilities(output="sex")}
    (found,) = session.predict(array(ROWS[:1]))
    raw = result.manifest.model.nest(session(array(ROWS[:1])).outputs)
    assert isinstance(raw, dict)
    assert found["sex"].label == "fm"[raw["sex"].argmax()]
    assert float(found["age"]) == raw["age"].item()


def test_each_of_several_goals_has_names_of_classes(compressed: Compressed) -> None:
    targets = {"sort": torch.arange(200) % 3, "sex": torch.arange(200) % 2, "age": ROWS.sum(1)}
    goal = ew.MultiTask({"sort": ew.Classification(), "sex": ew.Classification(),
                         "age": ew.Regression()},
                        classes={"sort": ("a", "b", "c"), "sex": ["f", "m"]})
    result, session = compressed(Dense({"sort": 3, "sex": 2, "age": 1}), (ROWS, targets), goal)
    assert ClassProbabilities(output="sex", names=("f", "m")) in result.manifest.model.decoding
    (found,) = session.predict(array(ROWS[:1]))
    raw = result.manifest.model.nest(session(array(ROWS[:1])).outputs)
    assert isinstance(raw, dict)
    assert found["sort"].label == "abc"[raw["sort"].argmax()]
    assert found["sex"].label == "fm"[raw["sex"].argmax()]


@pytest.mark.parametrize(("classes", "error", "message"), [
    ({"sex": ("a", "b", "c")}, ModelError, "needs 2 for the output 'sex', but there are 3"),
    ({"age": ("a",)}, UsageError, "the goal 'age' has no classes to be named, but classes names 1"),
])
def test_names_of_classes_that_do_not_fit_a_part_are_refused(
        compressed: Compressed, tmp_path: Path, classes: Any, error: Any, message: str) -> None:
    targets = {"sex": torch.arange(200) % 2, "age": ROWS.sum(1)}
    goal = ew.MultiTask({"sex": ew.Classification(), "age": ew.Regression()}, classes=classes)
    with pytest.raises(error, match=message):
        compressed(Dense({"sex": 2, "age": 1}), (ROWS, targets), goal)
    assert not (tmp_path / "run").exists()


def test_an_output_that_is_left_alone_loses_its_name(compressed: Compressed) -> None:
    result, session = compressed(Dense({"aux": 3, "age": 1}), (ROWS, ROWS.sum(1)),
                                 ew.Regression(output="age"))
    assert result.manifest.model.decoding == (Numbers(output="output_0"),)
    assert isinstance(session.predict(array(ROWS[:1]))[0], Quantity)


@dataclass(frozen=True)
class Finding(Goal):
    """Boxes and scores, compared with the targets as numbers."""

    name: ClassVar[str] = "finding"

    @property
    def metrics(self) -> tuple[NamedMetric, ...]:
        return value_metrics("")[:1]

    def predictions(self, outputs: Any) -> tuple[Prediction, ...]:
        return tuple(Prediction(name, named_outputs(outputs)[name], Values())
                     for name in ("boxes", "scores"))

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        return (outputs["boxes"] - targets).abs().mean() + outputs["scores"].square().mean()

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Any:
        return targets

    def metric_inputs(self, outputs: Any, targets: Any) -> tuple[Any, Any]:
        return outputs["boxes"], targets

    def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
        return (Boxes(score_threshold=0.1),)


class Finder(nn.Module):
    """Two candidates of three classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(8, 32)
        self.boxes, self.scores = nn.Linear(32, 8), nn.Linear(32, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.body(x).relu()
        return {"scores": self.scores(hidden).reshape(-1, 2, 3),
                "boxes": self.boxes(hidden).reshape(-1, 2, 4)}


def test_boxes(compressed: Compressed) -> None:
    result, session = compressed(Finder(), (ROWS, torch.rand(200, 2, 4)), Finding(),
                                 classes=("a", "b", "c"))
    assert result.manifest.model.decoding == (Boxes(score_threshold=0.1),)
    (found,) = session.predict(array(ROWS[:1]))
    assert isinstance(found, Detections)
    assert {one.label for one in found} == {"a", "b", "c"}
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_finding_the_steps_leaves_the_batch_size_free() -> None:
    program = Program.capture(Dense(2), ROWS[:2])
    find_decode_steps(program, ew.Classification())
    output = program.graph_module.graph.output_node().all_input_nodes[0].meta["val"]
    assert str(output.shape[0]).startswith("s")  # a symbol still
    assert program.run(ROWS[:7]).shape == (7, 2)


def test_a_file_with_exits(finished: Result, quadrant_task: ew.Task) -> None:
    model = finished.manifest.model
    assert model.decoding == (ClassProbabilities(output=model.outputs[0].name),)
    session = ew.load(finished.bundle)
    (x,) = next(quadrant_task.test.batches(20)).inputs
    found = session.predict(array(x))
    assert [one.label for one in found] == [
        model.classes[index] for index in session(array(x)).output.argmax(axis=1)
    ] if model.classes else []


class Nested(nn.Linear):
    """Outputs in a dict in a tuple, one of which is called like the input."""

    def forward(self, x: Tensor) -> Any:
        return {"x": super().forward(x), "pair": (x + 1, x + 2)}


def test_steps_have_the_names_of_the_file() -> None:
    program = Program.capture(Nested(2, 2), torch.zeros(2, 2))
    assert find_decode_steps(program, ew.Regression(output="x")) == (Numbers(output="x_out"),)
    nested = ew.MultiTask({"pair": ew.MultiTask({"1": ew.Regression(), "0": ew.Embedding()})})
    assert find_decode_steps(program, nested) == (
        Numbers(output="pair.1"), UnitVector(output="pair.0"))
    pair = Program.capture(nn.LSTM(2, 3, batch_first=True), torch.zeros(2, 4, 2))
    assert find_decode_steps(pair, ew.Regression(output=0))[0].outputs == ("output_0",)


@pytest.mark.parametrize(("goal", "classes", "message"), [
    ("multi-label", ("a", "b"), r"cannot be decoded: names of classes: the step 'answers' needs 3 "
                                r"for the output 'output_0', but there are 2; name all classes"),
    (ew.CustomGoal(lambda outputs, targets: outputs.square().mean(),
                   {"mae": value_metrics("")[0].make()}), ("a", "b"), "")])
def test_names_that_do_not_fit_are_refused_before_anything_is_written(
        compressed: Compressed, tmp_path: Path, goal: Any, classes: tuple[str, ...],
        message: str) -> None:
    targets = (ROWS[:, :3] > 0).float()
    if message:
        with pytest.raises(ModelError, match=message):
            compressed(Dense(3), (ROWS, targets), goal, classes=classes)
        assert not (tmp_path / "run").exists()
    else:  # numbers have no classes
        result, _ = compressed(Dense(3), (ROWS, targets), goal, classes=classes)
        assert result.manifest.model.decoding == (Numbers(output="output_0"),)


def test_a_step_that_reads_no_output_of_the_model_is_refused() -> None:
    @dataclass(frozen=True)
    class Wrong(Finding):
        def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
            return (Boxes(scores="logits"),)

    program = Program.capture(Finder(), ROWS[:2])
    with pytest.raises(ModelError, match="the goal finding decodes the output 'logits', but the "
                                         "model returns 'scores', 'boxes'"):
        find_decode_steps(program, Wrong())
