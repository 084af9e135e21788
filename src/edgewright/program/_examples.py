"""Making example inputs of a program from real samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.capture import InputSpec, make_example_batch
from edgewright.core import SizeRange, find_wrong_size
from edgewright.errors import DataError


def select_examples(samples: Sequence[Tensor], like: tuple[Any, ...],
                    inputs: Sequence[InputSpec]) -> tuple[Any, ...]:
    """Take the first and the last of a batch of samples as example inputs.

    Args:
        samples: A batch of each input.
        like: Example inputs of the program, for their structure and dtypes.
        inputs: Shapes of the program's inputs.

    Raises:
        DataError: The samples differ from ``like`` in number, shape or kind of dtype.
    """
    known, spec = pytree.tree_flatten(like)
    if (len(samples) != len(known) or not all(map(_fits, samples, known, inputs))
            or not len(samples[0])):
        raise DataError(f"the samples are {_describe(samples)}, but the program takes "
                        f"{_describe_inputs(known, inputs)}, with at least one sample; pass "
                        "samples of the shapes it was captured with")
    alike = [sample.to(leaf.dtype) for sample, leaf in zip(samples, known, strict=True)]
    return make_example_batch(pytree.tree_unflatten(alike, spec))


def _fits(sample: Tensor, known: Tensor, spec: InputSpec) -> bool:
    """Whether a batch has the rank, kind of dtype, and sizes of a sample."""
    return (sample.ndim == known.ndim and sample.is_floating_point() == known.is_floating_point()
            and find_wrong_size(sample.shape[1:], spec.shape[1:]) is None)


def _describe_inputs(known: Sequence[Tensor], inputs: Sequence[InputSpec]) -> str:
    if not any(isinstance(size, SizeRange) for spec in inputs for size in spec.shape):
        return _describe(known)
    return ", ".join(f"{str(spec.dtype).removeprefix('torch.')} {spec.shape_text}"
                     for spec in inputs)


def _describe(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
                     for tensor in tensors) or "nothing"
