"""A model's outputs by name, and those that are predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgewright.errors import ModelError
from edgewright.goals._kinds import PredictionKind


@dataclass(frozen=True, eq=False)
class Prediction:
    """One of a model's outputs that a goal uses.

    Attributes:
        name: Its name among the outputs; empty for a model with one output.
        tensor: Its values, (N, ...).
        kind: What they mean.
    """

    name: str
    tensor: Tensor
    kind: PredictionKind


def named_outputs(outputs: Any) -> dict[str, Any]:
    """A model's outputs by name: keys of a dict, positions of a tuple, or "" for a single one.

    Example:
        >>> import torch
        >>> one, other = torch.zeros(1), torch.ones(1)
        >>> list(named_outputs({"age": one, "sex": other}))
        ['age', 'sex']
        >>> list(named_outputs((one, other))), list(named_outputs(one))
        (['0', '1'], [''])
    """
    if isinstance(outputs, Mapping):
        return {str(name): value for name, value in outputs.items()}
    if isinstance(outputs, tuple | list):
        return {str(number): value for number, value in enumerate(outputs)}
    return {"": outputs}


def select_output(outputs: Any, name: str | int | None, goal: str) -> tuple[str, Tensor]:
    """The output of that name, with its name.

    Args:
        outputs: What the model returns.
        name: Key or position; None for the only one. A single tensor is the prediction, whatever
            its name was before the others were dropped.
        goal: Name of the goal, for error messages.

    Raises:
        ModelError: There is no such output, it is no tensor, or several could be meant.
    """
    found = named_outputs(outputs)
    if name is None and len(found) > 1:
        listed = ", ".join(f"{key}: {_describe(value)}" for key, value in found.items())
        raise ModelError(f"the model returns {len(found)} outputs ({listed}), and the goal {goal} "
                         "does not say which is the prediction; name it: "
                         f"output={next(iter(found))!r}, or give one goal per output: "
                         "goal={name: goal, ...}")
    is_single = list(found) == [""]
    key = next(iter(found), "") if name is None or is_single else str(name)
    if key not in found:
        raise ModelError(f"the goal {goal} expects {describe_output(key)}, but the model returns "
                         f"{list_outputs(found)}")
    if not isinstance(found[key], Tensor):
        place = f"its output {key!r}" if key else "the model"
        raise ModelError(f"{place} is a {type(found[key]).__name__}; expected a tensor")
    return key, found[key]


def check_prediction(prediction: Prediction, samples: int,
                     expected: str = "floating point with the batch as first dimension",
                     fits: Callable[[tuple[int, ...]], bool] | None = None) -> None:
    """Check that a prediction is floating point with the batch as first dimension.

    Args:
        prediction: The prediction.
        samples: Size of the batch.
        expected: What is expected, for the message.
        fits: Whether the sizes after the batch are as expected; None accepts all.

    Raises:
        ModelError: It is not.
    """
    tensor = prediction.tensor
    if (tensor.ndim == 0 or tensor.shape[0] != samples or not tensor.is_floating_point()
            or (fits is not None and not fits(tuple(tensor.shape[1:])))):
        raise ModelError(f"{describe_output(prediction.name)} of the model is "
                         f"{describe_shape(tensor, samples)}; expected {expected}")


def describe_output(name: str) -> str:
    """An output in a sentence: "the output 'age'", or "the output" of a model with one."""
    return f"the output {name!r}" if name else "the output"


def list_outputs(found: Mapping[str, Any]) -> str:
    """The names of a model's outputs, in a sentence."""
    return ", ".join(map(repr, filter(None, found))) or ("a single tensor" if found else "nothing")


def describe_shape(output: Tensor, samples: int) -> str:
    """Shape and dtype, with N for the batch: "(N, 10) float32"."""
    sizes = ["N" if axis == 0 and size == samples else str(size)
             for axis, size in enumerate(output.shape)]
    shape = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    return f"{shape} {str(output.dtype).removeprefix('torch.')}"


def _describe(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
