"""The decoding steps of a bundle: checked once, then applied to each call's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, final

import numpy as np

from edgewright.core import (
    Answers,
    Boxes,
    ClassMask,
    ClassProbabilities,
    DecodeStep,
    ModelSpec,
    NamedStep,
    Numbers,
    TensorSpec,
    UnitVector,
    format_shape,
)
from edgewright.errors import BundleError, UsageError
from edgewright.runtime.decoding._answers import AnswerSet, count_questions, decode_answers
from edgewright.runtime.decoding._boxes import Detections, decode_boxes
from edgewright.runtime.decoding._classes import ClassRanking, decode_classes
from edgewright.runtime.decoding._mask import Mask, decode_masks
from edgewright.runtime.decoding._numbers import Quantity, decode_numbers
from edgewright.runtime.decoding._vectors import Vector, decode_vectors
from edgewright.runtime.engines import Arrays

Decoded: TypeAlias = ClassRanking | Mask | AnswerSet | Detections | Vector | Quantity
_Function: TypeAlias = Callable[..., Sequence[Decoded]]

_SHAPES: Final[Mapping[type[Any], tuple[str, Callable[[int], bool]]]] = {
    ClassProbabilities: ("(N, classes)", lambda rank: rank == 2),
    ClassMask: ("(N, classes, height, width)", lambda rank: rank >= 3),
    Answers: ("(N,) or (N, questions)", lambda rank: rank >= 1),
    Boxes: ("(N, candidates, 4) and (N, candidates, classes)", lambda rank: rank == 3),
    UnitVector: ("(N, dimensions)", lambda rank: rank == 2),
    Numbers: ("(N, ...)", lambda rank: rank >= 1),
}


@final
class Decoder:
    """Turns outputs into answers by the steps of a manifest.

    Args:
        model: The part of the manifest for the runtime.

    Raises:
        BundleError: A step does not fit the outputs or the classes.

    Example:
        >>> spec = TensorSpec(name="logits", dtype="float32", shape=(None, 2))
        >>> model = ModelSpec(name="tiny", inputs=(), outputs=(spec,), segments=(),
        ...                   decoding=(ClassProbabilities(),), classes=("cat", "dog"))
        >>> [found.label for found in Decoder(model)((np.array([[0.0, 2.0], [1.0, 0.0]]),))]
        ['dog', 'cat']
    """

    def __init__(self, model: ModelSpec) -> None:
        specs = {spec.name: (position, spec) for position, spec in enumerate(model.outputs)}
        steps = [step.rename_outputs(partial(_full_name, model)) for step in model.decoding]
        unnamed = [step for step in steps if isinstance(step, NamedStep) and step.names is None]
        # The classes of one goal; with several it is unknown whose they are.
        default = model.classes if len(unnamed) == 1 else None
        self._steps: list[tuple[str, tuple[int, ...], _Function]] = []
        for step in steps:
            missing = [name for name in step.outputs if name not in specs]
            if missing:
                raise BundleError(f"the step {step.step!r} decodes the output {missing[0]!r}, but "
                                  f"the model returns {', '.join(map(repr, specs))}")
            found = [specs[name] for name in step.outputs]
            names = (step.names or default) if isinstance(step, NamedStep) else None
            _check(step, [spec for _, spec in found], names)
            self._steps.append((step.outputs[0], tuple(position for position, _ in found),
                                _function(step, names)))

    def __call__(self, outputs: Arrays) -> list[Any]:
        """Decode a batch.

        Args:
            outputs: The model's outputs, in order, (N, ...) each.

        Returns:
            One result per sample; a dict of results by output if there are several steps.

        Raises:
            UsageError: The bundle names no steps.
        """
        if not self._steps:
            raise UsageError("this bundle does not say how its outputs are decoded; call the "
                             "session itself for the raw outputs, or compress the model again")
        results = {name: function(*(outputs[position] for position in positions))
                   for name, positions, function in self._steps}
        if len(self._steps) == 1:
            return list(*results.values())
        return [dict(zip(results, sample, strict=True))
                for sample in zip(*results.values(), strict=True)]


def resize_boxes(result: Any, size: tuple[int, int], to: tuple[int, int]) -> Any:
    """A sample's result with its boxes in pixels of a picture of another size.

    Args:
        result: A result, or a dict of results.
        size: Width and height that the boxes are for.
        to: Width and height that they are wanted for.
    """
    if isinstance(result, dict):
        return {name: resize_boxes(part, size, to) for name, part in result.items()}
    return result.resize(size, to) if isinstance(result, Detections) else result


def _full_name(model: ModelSpec, name: str) -> str:
    return model.outputs[0].name if not name and len(model.outputs) == 1 else name


def _function(step: DecodeStep, names: tuple[str, ...] | None) -> _Function:
    """From the arrays of the step's outputs to a result per sample."""
    if isinstance(step, ClassProbabilities):
        return partial(decode_classes, names=names)
    if isinstance(step, ClassMask):
        return partial(decode_masks, names=names, axis=step.axis)
    if isinstance(step, Answers):
        return partial(decode_answers, threshold=step.threshold, names=names)
    if isinstance(step, Boxes):
        return partial(decode_boxes, step=step, names=names)
    if isinstance(step, UnitVector):
        return decode_vectors
    return partial(decode_numbers, unit=step.unit)


def _check(step: DecodeStep, specs: Sequence[TensorSpec], classes: tuple[str, ...] | None) -> None:
    """Check the outputs' ranks and dtypes, and the number of classes."""
    expected, fits = _SHAPES[type(step)]
    is_float = isinstance(step, Numbers) or all(np.dtype(spec.dtype).kind == "f" for spec in specs)
    if not (is_float and all(fits(len(spec.shape)) for spec in specs) and _boxes_fit(step, specs)
            and _axis_fits(step, specs)):
        found = " and ".join(f"{spec.name!r} {format_shape(spec.shape)} {spec.dtype}"
                             for spec in specs)
        raise BundleError(f"the step {step.step!r} expects {expected}"
                          f"{'' if isinstance(step, Numbers) else ' of floating point'}, but the "
                          f"model returns {found}")
    if classes is None:
        return
    fixed = [size if isinstance(size, int) else None for size in specs[-1].shape]
    counts = _class_counts(step, fixed)
    if counts and len(classes) not in counts:
        raise BundleError(f"names of classes: the step {step.step!r} needs {counts[0]} for the "
                          f"output {specs[-1].name!r}, but there are {len(classes)}")


def _boxes_fit(step: DecodeStep, specs: Sequence[TensorSpec]) -> bool:
    """Whether boxes have four coordinates, and as many candidates as scores."""
    if not isinstance(step, Boxes):
        return True
    boxes, scores = (spec.shape for spec in specs)
    return boxes[-1] in (4, None) and (boxes[1] == scores[1] or None in (boxes[1], scores[1]))


def _axis_fits(step: DecodeStep, specs: Sequence[TensorSpec]) -> bool:
    """Whether the classes of a mask are in a dimension that the output has, after the samples'."""
    rank = len(specs[0].shape)
    return not isinstance(step, ClassMask) or (step.axis != 0 and -rank < step.axis < rank)


def _class_counts(step: DecodeStep, shape: Sequence[int | None]) -> tuple[int, ...]:
    """How many names the classes may have; empty for any number."""
    if isinstance(step, Answers):
        count = count_questions(shape)
        return (1, 2) if count == 1 else () if count is None else (count,)
    axis = step.axis if isinstance(step, ClassMask) else 2 if isinstance(step, Boxes) else 1
    count = shape[axis]
    return () if count is None else (count,)

