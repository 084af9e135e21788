"""Steps and outputs: what fits, and what is refused before the first call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewright.core import (
    Answers,
    Boxes,
    ClassMask,
    ClassProbabilities,
    DecodeStep,
    ModelSpec,
    Numbers,
    TensorSpec,
    UnitVector,
)
from edgewright.errors import BundleError, UsageError
from edgewright.runtime import AnswerSet, ClassRanking, Detections, Mask, Quantity, Vector
from edgewright.runtime.decoding import Decoder

STEPS: list[tuple[DecodeStep, tuple[int, ...], type]] = [
    (ClassProbabilities(), (3,), ClassRanking), (ClassMask(), (3, 4, 4), Mask),
    (ClassMask(axis=-1), (5, 3), Mask),
    (Answers(), (3,), AnswerSet), (Answers(), (), AnswerSet), (UnitVector(), (5,), Vector),
    (Numbers(unit="m"), (2, 2), Quantity),
]


def model(*steps: DecodeStep, classes: tuple[str, ...] | None = None,
          **shapes: tuple[int, ...]) -> ModelSpec:
    return ModelSpec(name="m", inputs=(), segments=(), decoding=steps, classes=classes,
                     outputs=tuple(TensorSpec(name=name, dtype="float32", shape=(None, *sizes))
                                   for name, sizes in shapes.items()))


@pytest.mark.parametrize(("step", "sizes", "kind"), STEPS)
def test_each_step_gives_its_result_for_each_sample(step: DecodeStep, sizes: tuple[int, ...],
                                                    kind: type) -> None:
    found = Decoder(model(step, y=sizes))((np.zeros((2, *sizes), dtype=np.float32),))
    assert [type(one) for one in found] == [kind, kind]


def test_boxes_and_scores_are_found_by_name() -> None:
    decoder = Decoder(model(Boxes(boxes="b", scores="a"), classes=("cat",), a=(5, 1), b=(5, 4)))
    scores, boxes = np.full((1, 5, 1), 2.0), np.arange(20.0).reshape(1, 5, 4)
    (found,) = decoder((scores, boxes))
    assert isinstance(found, Detections)
    assert {one.label for one in found} == {"cat"}


def test_several_steps_give_a_result_by_output() -> None:
    decoder = Decoder(model(Numbers(output="age", unit="years"), ClassProbabilities(output="sex"),
                            classes=("f", "m"), sex=(2,), age=(1,)))
    first, second = decoder((np.array([[2.0, 0], [0, 1]]), np.array([[31.0], [45.0]])))
    assert (first["sex"].label, float(first["age"])) == ("f", 31)
    assert (second["sex"].label, float(second["age"])) == ("m", 45)


def test_of_two_steps_with_classes_neither_is_named() -> None:
    decoder = Decoder(model(ClassProbabilities(output="a"), ClassProbabilities(output="b"),
                            classes=("f", "m"), a=(2,), b=(3,)))
    (found,) = decoder((np.zeros((1, 2)), np.zeros((1, 3))))
    assert (found["a"].label, found["b"].label) == ("class 0", "class 0")


def test_without_steps_nothing_is_decoded() -> None:
    decoder = Decoder(model(y=(2,)))
    with pytest.raises(UsageError, match="does not say how its outputs are decoded; call the "):
        decoder((np.zeros((1, 2)),))


@pytest.mark.parametrize(("step", "shapes", "message"), [
    (ClassProbabilities(output="z"), {"y": (3,)},
     "'class_probabilities' decodes the output 'z', but the model returns 'y'"),
    (ClassProbabilities(), {"x": (3,), "y": (3,)}, "the output '', but the model returns 'x', 'y'"),
    (Boxes(), {"boxes": (5, 4)}, "the output 'scores', but the model returns 'boxes'"),
    (ClassProbabilities(), {"y": (3, 4)}, r"expects \(N, classes\) of floating point, but the model"
                                          r" returns 'y' \(N, 3, 4\) float32"),
    (ClassMask(), {"y": (3,)}, r"expects \(N, classes, height, width\)"),
    (ClassMask(axis=3), {"y": (3, 4)}, r"'class_mask' expects \(N, classes, height, width\)"),
    (ClassMask(axis=-3), {"y": (3, 4)}, r"'class_mask' expects"),
    (UnitVector(), {"y": (3, 4)}, r"expects \(N, dimensions\)"),
    (Boxes(), {"boxes": (5, 4), "scores": (6, 2)},
     r"returns 'boxes' \(N, 5, 4\) float32 and 'scores' \(N, 6, 2\) float32"),
    (Boxes(), {"boxes": (5, 3), "scores": (5, 2)}, r"expects \(N, candidates, 4\) and \(N, cand"),
    (Boxes(), {"boxes": (5, 4), "scores": (5,)}, r"expects \(N, candidates, 4\) and \(N, cand"),
])
def test_a_step_that_does_not_fit_is_refused(step: DecodeStep, shapes: dict[str, Any],
                                             message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        Decoder(model(step, **shapes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("step", "shapes", "count"), [
    (ClassProbabilities(), {"y": (3,)}, 3), (ClassMask(), {"y": (3, 2, 2)}, 3),
    (ClassMask(axis=-1), {"y": (5, 3)}, 3),
    (Answers(), {"y": (3,)}, 3), (Boxes(), {"boxes": (5, 4), "scores": (5, 3)}, 3)])
def test_classes_that_disagree_with_the_outputs_are_refused(
        step: DecodeStep, shapes: dict[str, Any], count: int) -> None:
    Decoder(model(step, classes=("a", "b", "c"), **shapes))
    with pytest.raises(BundleError, match=f"needs {count} for the output '.*', but there are 2"):
        Decoder(model(step, classes=("a", "b"), **shapes))


@pytest.mark.parametrize(("classes", "fits"), [(1, True), (2, True), (3, False)])
def test_one_question_has_one_name_or_those_of_no_and_yes(classes: int, fits: bool) -> None:
    spec = model(Answers(), classes=tuple("abc"[:classes]), y=(1,))
    if fits:
        (found,) = Decoder(spec)((np.ones((1, 1)),))
        assert found.labels == ["abc"[classes - 1]]
    else:
        with pytest.raises(BundleError, match="needs 1 for the output 'y', but there are 3"):
            Decoder(spec)


def test_classes_do_not_concern_values() -> None:
    Decoder(model(Numbers(), classes=("a", "b"), y=(3,)))


def test_integers_are_numbers_but_no_logits() -> None:
    spec = TensorSpec(name="y", dtype="int64", shape=(None, 3))
    plain = model(Numbers()).replace(outputs=(spec,))
    assert Decoder(plain)((np.array([[1, 2, 3]]),))[0].values.tolist() == [1, 2, 3]
    with pytest.raises(BundleError, match=r"'y' \(N, 3\) int64"):
        Decoder(plain.replace(decoding=(ClassProbabilities(),)))
