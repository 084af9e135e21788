"""How a file's outputs become answers: named steps with settings, never code."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from edgewright.core._settings import Value


class ClassProbabilities(Value):
    """Softmax over the classes in dimension 1: the most probable classes of each sample."""

    step: Literal["class_probabilities"] = "class_probabilities"
    output: str = ""


class ClassMask(Value):
    """The most probable class of each pixel, over dimension 1."""

    step: Literal["class_mask"] = "class_mask"
    output: str = ""


class Answers(Value):
    """Sigmoid of one logit per yes-or-no question, and whether it reaches the threshold."""

    step: Literal["answers"] = "answers"
    output: str = ""
    threshold: float = Field(default=0.5, ge=0, le=1)


class Boxes(Value):
    """Boxes with class and score, after non-maximum suppression within each class.

    Attributes:
        boxes: Output (N, candidates, 4): left, top, right, bottom, in pixels of the input.
        scores: Output (N, candidates, classes): logits of independent classes.
        score_threshold: Least probability of a box.
        iou_threshold: Of two boxes of one class that overlap by more, the less probable is dropped.
        max_boxes: Most boxes per sample, the most probable first.
    """

    step: Literal["boxes"] = "boxes"
    boxes: str = "boxes"
    scores: str = "scores"
    score_threshold: float = Field(default=0.25, ge=0, le=1)
    iou_threshold: float = Field(default=0.5, ge=0, le=1)
    max_boxes: int = Field(default=100, ge=1)


class UnitVector(Value):
    """The vector divided by its length, so that products of two are cosines."""

    step: Literal["unit_vector"] = "unit_vector"
    output: str = ""


class Numbers(Value):
    """The values as they are, with their unit."""

    step: Literal["numbers"] = "numbers"
    output: str = ""
    unit: str = ""


DecodeStep: TypeAlias = Annotated[
    ClassProbabilities | ClassMask | Answers | Boxes | UnitVector | Numbers,
    Field(discriminator="step")]
