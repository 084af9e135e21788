"""Example inputs of a program: two samples, nested as the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.capture import example_batch
from edgewright.errors import DataError


def examples_of(samples: Sequence[Tensor], like: tuple[Any, ...]) -> tuple[Any, ...]:
    """The first and the last of a batch of samples, as a program takes them.

    Args:
        samples: A batch of each input.
        like: Other example inputs of the program.

    Raises:
        DataError: The samples differ from these in number, shape or kind of numbers.
    """
    known, spec = pytree.tree_flatten(like)
    if list(map(_kind, samples)) != list(map(_kind, known)) or not len(samples[0]):
        raise DataError(f"the samples are {_listed(samples)}, but the program takes "
                        f"{_listed(known)}, with any number of samples from 1; give samples such "
                        "as it was captured with")
    alike = [sample.to(leaf.dtype) for sample, leaf in zip(samples, known, strict=True)]
    return example_batch(pytree.tree_unflatten(alike, spec))


def _kind(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape[1:], tensor.is_floating_point()


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
                     for tensor in tensors) or "nothing"
