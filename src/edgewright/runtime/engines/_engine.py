"""What runs one segment of a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewright.runtime.engines._failures import input_failure

Arrays = tuple[NDArray[Any], ...]

REFUSALS: Final = (RuntimeError, TypeError, ValueError)


class Engine(Protocol):
    """Runs one model file; safe to call from several threads at once."""

    @property
    def runtime(self) -> str:
        """Name and version of what computes."""

    def run(self, inputs: Arrays) -> Arrays:
        """Compute the outputs, in the file's order, from the inputs, in the file's order."""


class FileEngine(ABC):
    """An `Engine` that tells in one way what its runtime refuses.

    Args:
        runtime: Name and version of what computes, as in ``onnxruntime 1.31.1``.
        refusals: What the runtime raises where it does not take a model or its inputs.

    Example:
        >>> class Adder(FileEngine):
        ...     def _compute(self, inputs):
        ...         return (inputs[0] + inputs[1],)
        >>> Adder("numpy 2").run((np.zeros(2), np.zeros(3)))
        Traceback (most recent call last):
            ...
        edgewright.errors.BundleError: the model does not take these inputs: operands could not \
be broadcast together with shapes (2,) (3,)
    """

    def __init__(self, runtime: str, refusals: tuple[type[Exception], ...] = REFUSALS) -> None:
        self._runtime, self._refusals = runtime, refusals

    @property
    def runtime(self) -> str:
        """Name and version of what computes."""
        return self._runtime

    def run(self, inputs: Arrays) -> Arrays:
        """Compute all outputs of the model, from its inputs in their order.

        Raises:
            BundleError: The model does not take inputs of this number, type or shape.
        """
        try:
            return self._compute(inputs)
        except self._refusals as error:
            raise input_failure(error) from error

    @abstractmethod
    def _compute(self, inputs: Arrays) -> Arrays:
        """What `run` gives, or one of the refusals."""


def one_by_one(inputs: Arrays, run: Callable[[Arrays], Arrays]) -> Arrays:
    """Run the samples of a batch one after another, for files that take a single one.

    Args:
        inputs: Each of shape (N, ...).
        run: From inputs to outputs of shape (1, ...).

    Raises:
        ValueError: There is no sample, or one input has more of them than another.

    Example:
        >>> one_by_one((np.array([[1.0], [2.0]]),), lambda inputs: (inputs[0].sum(1),))
        (array([1., 2.]),)
    """
    counts = {len(array) for array in inputs}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"given {[len(array) for array in inputs]} samples, expected as many in "
                         "each input, one at least")
    rows = [run(tuple(array[index:index + 1] for array in inputs)) for index in range(*counts)]
    return tuple(map(np.concatenate, zip(*rows, strict=True)))


def fitted(array: NDArray[Any], kind: np.dtype[Any], name: str) -> NDArray[Any]:
    """An array in the type that a file has: converters write numbers in fewer bits.

    Raises:
        ValueError: It is of another kind, or a number lies outside of the type's range.

    Example:
        >>> fitted(np.array([1, 2]), np.dtype("int32"), "ids").dtype
        dtype('int32')
        >>> fitted(np.array([3_000_000_000]), np.dtype("int32"), "ids")
        Traceback (most recent call last):
            ...
        ValueError: ids holds 3000000000, and the file takes int32, from -2147483648 to 2147483647
    """
    if array.dtype == kind:
        return array
    same = any(np.issubdtype(array.dtype, family) and np.issubdtype(kind, family)
               for family in (np.integer, np.floating))
    if not same:
        raise ValueError(f"{name} is {array.dtype}, expected {kind}")
    limits = np.iinfo(kind) if np.issubdtype(kind, np.integer) else np.finfo(kind)
    outside = array[np.isfinite(array) & ((array < limits.min) | (array > limits.max))]
    if outside.size:
        raise ValueError(f"{name} holds {outside.flat[0]}, and the file takes {kind}, from "
                         f"{limits.min} to {limits.max}")
    return array.astype(kind)
