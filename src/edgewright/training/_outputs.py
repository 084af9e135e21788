"""What a module returns, and whether it is what a classifier returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from edgewright.errors import ModelError


def as_outputs(result: Any) -> tuple[Tensor, ...]:
    """What a module returned as a tuple of tensors; how many are exits is not theirs to tell.

    Raises:
        ModelError: It is neither a tensor, nor a tuple or list of them.

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
                     "wrap the model so that it returns its logits alone")


def check_logits(outputs: Sequence[Tensor], samples: int, exits: int | None = None) -> int:
    """See that outputs are the logits of a classifier, one tensor per exit.

    Args:
        outputs: For that many samples, the final one last.
        samples: N.
        exits: How many early exits there are beside the final output; None does not count.

    Returns:
        The number of classes, of the final output.

    Raises:
        ModelError: Another number of outputs, or one that is not floating point (N, classes) of
            two classes or more; all are listed.

    Example:
        >>> import torch
        >>> check_logits([torch.zeros(4, 3)], samples=4, exits=0)
        3
        >>> check_logits([torch.zeros(4, 1)], samples=4)
        Traceback (most recent call last):
            ...
        edgewright.errors.ModelError: output 0 of the model is (N, 1) float32; expected logits (N, classes), floating point, of two classes or more. For a yes-or-no answer return two logits, as torch.cat([-z / 2, z / 2], dim=1) gives them for one logit z
    """  # noqa: E501 - the message is one line
    if exits is not None:
        check_count(outputs, samples, exits)
    for index, output in enumerate(outputs):
        if fault := _fault(output, samples):
            raise ModelError(f"output {index} of the model is {_form(output, samples)}; expected "
                             "logits (N, classes), floating point, of two classes or more. "
                             f"{fault}")
    return outputs[-1].shape[1]


def check_count(outputs: Sequence[Tensor], samples: int, exits: int) -> None:
    """See that there are as many outputs as exits, the final one counted.

    Raises:
        ModelError: There are more or fewer; all are listed.
    """
    if len(outputs) == exits + 1:
        return
    listed = ", ".join(_form(output, samples) for output in outputs)
    expected = ("one tensor of logits (N, classes)" if exits == 0 else
                f"{exits + 1} of them, of {exits} early exits and of the final output")
    raise ModelError(f"the model returns {len(outputs)} outputs ({listed}), and this takes a "
                     f"classifier that returns {expected}. "
                     "Several outputs are not taken for exits: wrap the model so that it returns "
                     "the logits alone (early exits are what add_exits adds; for an objective on "
                     "several outputs, give train your own Objective)")


def _form(output: Tensor, samples: int) -> str:
    sizes = ["N" if axis == 0 and size == samples else str(size)
             for axis, size in enumerate(output.shape)]
    shape = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    return f"{shape} {str(output.dtype).removeprefix('torch.')}"


def _fault(output: Tensor, samples: int) -> str:
    """What is to be done about an output that is no tensor of logits; empty where it is one."""
    if output.ndim != 2 or output.shape[0] != samples:
        return ("One answer per sample can be trained and judged so far, the batch first: pool or "
                "flatten what there is more of")
    if not output.is_floating_point():
        return "Return the logits themselves, not what argmax or a complex transform makes of them"
    if output.shape[1] < 2:
        return ("For a yes-or-no answer return two logits, as torch.cat([-z / 2, z / 2], dim=1) "
                "gives them for one logit z")
    return ""
