"""Convert and check a module's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from edgewright.errors import ModelError


def as_outputs(result: Any) -> tuple[Tensor, ...]:
    """Convert a module's result to a tuple of tensors; which of them are exits is known elsewhere.

    Raises:
        ModelError: It is neither a tensor nor a tuple or list of tensors.

    Example:
        >>> import torch
        >>> len(as_outputs(torch.zeros(2, 3))), len(as_outputs([torch.zeros(2), torch.zeros(2)]))
        (1, 2)
    """
    if isinstance(result, Tensor):
        return (result,)
    if isinstance(result, tuple | list) and result and all(isinstance(r, Tensor) for r in result):
        return tuple(result)
    raise ModelError(f"the model returned a {type(result).__name__}; expected a tensor of logits "
                     "(N, classes), or, with early exits, a tuple of them, the final one last: "
                     "wrap the model so that it returns only its logits")


def check_logits(outputs: Sequence[Tensor], samples: int, exits: int | None = None) -> int:
    """Check that outputs are the logits of a classifier, one tensor per exit.

    Args:
        outputs: The outputs, the final one last.
        samples: The number of samples N.
        exits: Number of early exits besides the final output; None does not check it.

    Returns:
        The number of classes of the final output.

    Raises:
        ModelError: The wrong number of outputs, or an output that is not floating point (N,
            classes) with at least two classes; the message lists them.

    Example:
        >>> import torch
        >>> check_logits([torch.zeros(4, 3)], samples=4, exits=0)
        3
        >>> check_logits([torch.zeros(4, 1)], samples=4)
        Traceback (most recent call last):
            ...
        edgewright.errors.ModelError: output 0 of the model is (N, 1) float32; expected floating-point logits (N, classes) with at least two classes. For binary classification return two logits: torch.cat([-z / 2, z / 2], dim=1) for a single logit z
    """  # noqa: E501 - the message is one line
    if exits is not None:
        check_count(outputs, samples, exits)
    for index, output in enumerate(outputs):
        if fault := _suggest_fix(output, samples):
            raise ModelError(f"output {index} of the model is {_describe_shape(output, samples)}; "
                             "expected floating-point logits (N, classes) with at least two "
                             f"classes. {fault}")
    return outputs[-1].shape[1]


def check_count(outputs: Sequence[Tensor], samples: int, exits: int) -> None:
    """Check that there is one output per exit, including the final one.

    Raises:
        ModelError: There are more or fewer; the message lists them.
    """
    if len(outputs) == exits + 1:
        return
    listed = ", ".join(_describe_shape(output, samples) for output in outputs)
    expected = ("one tensor of logits (N, classes)" if exits == 0 else
                f"{exits + 1} outputs: {exits} early exits and the final output")
    raise ModelError(f"the model returns {len(outputs)} outputs ({listed}), but expected is a "
                     f"classifier that returns {expected}. "
                     "Several outputs are not treated as exits: wrap the model so that it returns "
                     "only the logits (add_exits adds early exits; for an objective on several "
                     "outputs, pass your own Objective to train)")


def _describe_shape(output: Tensor, samples: int) -> str:
    sizes = ["N" if axis == 0 and size == samples else str(size)
             for axis, size in enumerate(output.shape)]
    shape = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    return f"{shape} {str(output.dtype).removeprefix('torch.')}"


def _suggest_fix(output: Tensor, samples: int) -> str:
    """A suggestion for an output that is not a tensor of logits; empty if it is one."""
    if output.ndim != 2 or output.shape[0] != samples:
        return ("Only one prediction per sample is supported, with the batch as first dimension: "
                "pool or flatten the other dimensions")
    if not output.is_floating_point():
        return "Return the logits themselves, not the result of argmax or of a complex transform"
    if output.shape[1] < 2:
        return ("For binary classification return two logits: torch.cat([-z / 2, z / 2], dim=1) "
                "for a single logit z")
    return ""
