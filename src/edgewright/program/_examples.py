"""Making example inputs of a program from real samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.capture import make_example_batch
from edgewright.errors import DataError


def select_examples(samples: Sequence[Tensor], like: tuple[Any, ...]) -> tuple[Any, ...]:
    """Take the first and the last of a batch of samples as example inputs.

    Args:
        samples: A batch of each input.
        like: Example inputs of the program, for their structure and dtypes.

    Raises:
        DataError: The samples differ from ``like`` in number, shape or kind of dtype.
    """
    known, spec = pytree.tree_flatten(like)
    if list(map(_kind, samples)) != list(map(_kind, known)) or not len(samples[0]):
        raise DataError(f"the samples are {_describe(samples)}, but the program takes "
                        f"{_describe(known)}, with at least one sample; pass samples of the shapes "
                        "it was captured with")
    alike = [sample.to(leaf.dtype) for sample, leaf in zip(samples, known, strict=True)]
    return make_example_batch(pytree.tree_unflatten(alike, spec))


def _kind(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape[1:], tensor.is_floating_point()


def _describe(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
                     for tensor in tensors) or "nothing"
