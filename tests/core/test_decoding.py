"""Decoding steps as values and in JSON."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from edgewright.core import (
    Answers,
    Boxes,
    ClassMask,
    ClassProbabilities,
    DecodeStep,
    ModelSpec,
    Numbers,
    UnitVector,
)

STEPS: tuple[DecodeStep, ...] = (
    ClassProbabilities(output="y"), ClassMask(), Answers(threshold=0.2), Numbers(unit="m"),
    UnitVector(), Boxes(scores="s", iou_threshold=0.4))


def test_steps_survive_the_manifest() -> None:
    model = ModelSpec(name="m", inputs=(), outputs=(), segments=(), decoding=STEPS)
    assert ModelSpec.model_validate_json(model.model_dump_json()).decoding == STEPS


def test_a_manifest_without_steps_has_none() -> None:
    assert ModelSpec(name="m", inputs=(), outputs=(), segments=()).decoding == ()


@pytest.mark.parametrize("content", [
    {"step": "python", "code": "print()"}, {"step": "answers", "threshold": 2},
    {"step": "boxes", "max_boxes": 0}, {"step": "numbers", "code": "x"}, {}])
def test_what_is_no_step_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(DecodeStep).validate_python(content)


def test_outputs_are_renamed_and_settings_stay() -> None:
    step = Boxes(boxes="b", scores="s", max_boxes=3)
    assert step.outputs == ("b", "s")
    assert step.rename_outputs(str.upper) == Boxes(boxes="B", scores="S", max_boxes=3)
    assert Answers(threshold=0.3).rename_outputs(lambda name: f"{name}0") == Answers(
        output="0", threshold=0.3)
