"""How a file's outputs become answers: named steps with settings, never code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field

from edgewright.core._settings import Value


class Step(Value):
    """Base class of the steps: knows which of its fields name an output; "" is the only output."""

    output_fields: ClassVar[tuple[str, ...]] = ("output",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs that the step reads.

        Example:
            >>> Boxes(scores="logits").outputs
            ('boxes', 'logits')
        """
        return tuple(getattr(self, name) for name in self.output_fields)

    def rename_outputs(self, rename: Callable[[str], str]) -> Self:
        """The step with other names of its outputs.

        Example:
            >>> Answers().rename_outputs(lambda name: name or "output_0").output
            'output_0'
        """
        return self.replace(**{field: rename(name) for field, name
                               in zip(self.output_fields, self.outputs, strict=True)})


class NamedStep(Step):
    """A step whose results are about classes or questions.

    Attributes:
        names: Their names, in order; None for those of the model, if this is its only such step.
    """

    names: tuple[str, ...] | None = None


class ClassProbabilities(NamedStep):
    """Softmax over the classes in dimension 1: the most probable classes of each sample."""

    step: Literal["class_probabilities"] = "class_probabilities"
    output: str = ""


class ClassMask(NamedStep):
    """The most probable class of each pixel, or of each token.

    Attributes:
        axis: Dimension of the classes; negative ones count from the last.
    """

    step: Literal["class_mask"] = "class_mask"
    output: str = ""
    axis: int = 1


class Answers(NamedStep):
    """Sigmoid of one logit per yes-or-no question; above the threshold the answer is yes."""

    step: Literal["answers"] = "answers"
    output: str = ""
    threshold: float = Field(default=0.5, ge=0, le=1)


class Boxes(NamedStep):
    """Boxes with class and score, after non-maximum suppression within each class.

    Attributes:
        names: As in `NamedStep`.
        boxes: Output (N, candidates, 4): left, top, right, bottom, in pixels of the input.
        scores: Output (N, candidates, classes): logits of independent classes.
        score_threshold: Least probability of a box.
        iou_threshold: Of two boxes of one class that overlap by more, the less probable is dropped.
        max_boxes: Most boxes per sample, the most probable first.
    """

    output_fields: ClassVar[tuple[str, ...]] = ("boxes", "scores")
    step: Literal["boxes"] = "boxes"
    boxes: str = "boxes"
    scores: str = "scores"
    score_threshold: float = Field(default=0.25, ge=0, le=1)
    iou_threshold: float = Field(default=0.5, ge=0, le=1)
    max_boxes: int = Field(default=100, ge=1)


class UnitVector(Step):
    """The vector divided by its length, so that products of two are cosines."""

    step: Literal["unit_vector"] = "unit_vector"
    output: str = ""


class Numbers(Step):
    """The values as they are, with their unit."""

    step: Literal["numbers"] = "numbers"
    output: str = ""
    unit: str = ""


DecodeStep: TypeAlias = Annotated[
    ClassProbabilities | ClassMask | Answers | Boxes | UnitVector | Numbers,
    Field(discriminator="step")]
