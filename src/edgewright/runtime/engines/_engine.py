"""The interface of an engine, which runs one segment of a bundle."""

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
        """Name and version of the runtime."""

    def run(self, inputs: Arrays) -> Arrays:
        """Compute the outputs, in the file's order, from the inputs, in the file's order."""


class FileEngine(ABC):
    """Base class of engines that turns a runtime's own errors into `BundleError`.

    Args:
        runtime: Name and version of the runtime, as in ``onnxruntime 1.31.1``.
        refusals: Exceptions the runtime raises for a model or inputs that it cannot use.

    Example:
        >>> class Adder(FileEngine):
        ...     def _compute(self, inputs):
        ...         return (inputs[0] + inputs[1],)
        >>> Adder("numpy 2").run((np.zeros(2), np.zeros(3)))
        Traceback (most recent call last):
            ...
        edgewright.errors.BundleError: the model does not accept these inputs: operands could not \
be broadcast together with shapes (2,) (3,)
    """

    def __init__(self, runtime: str, refusals: tuple[type[Exception], ...] = REFUSALS) -> None:
        self._runtime, self._refusals = runtime, refusals

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""
        return self._runtime

    def run(self, inputs: Arrays) -> Arrays:
        """Compute all outputs of the model, from its inputs in their order.

        Raises:
            BundleError: The inputs' number, type or shape does not match the model.
        """
        try:
            return self._compute(inputs)
        except self._refusals as error:
            raise input_failure(error) from error

    @abstractmethod
    def _compute(self, inputs: Arrays) -> Arrays:
        """The result of `run`; may raise one of the refusals."""


def run_one_by_one(inputs: Arrays, run: Callable[[Arrays], Arrays]) -> Arrays:
    """Run the samples of a batch one after another, for files with a batch size of 1.

    Args:
        inputs: Arrays of shape (N, ...).
        run: Maps inputs of shape (1, ...) to outputs of shape (1, ...).

    Raises:
        ValueError: There are no samples, or the inputs have different numbers of them.

    Example:
        >>> run_one_by_one((np.array([[1.0], [2.0]]),), lambda inputs: (inputs[0].sum(1),))
        (array([1., 2.]),)
    """
    counts = {len(array) for array in inputs}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"given {[len(array) for array in inputs]} samples, expected the same "
                         "number in each input, at least one")
    rows = [run(tuple(array[index:index + 1] for array in inputs)) for index in range(*counts)]
    return tuple(map(np.concatenate, zip(*rows, strict=True)))


def convert(array: NDArray[Any], kind: np.dtype[Any], name: str) -> NDArray[Any]:
    """Convert an array to a file's dtype, which may have fewer bits than the model's.

    Raises:
        ValueError: The array mixes integer and floating point with the file's dtype, or a number is
            out of range.

    Example:
        >>> convert(np.array([1, 2]), np.dtype("int32"), "ids").dtype
        dtype('int32')
        >>> convert(np.array([3_000_000_000]), np.dtype("int32"), "ids")
        Traceback (most recent call last):
            ...
        ValueError: ids contains 3000000000, but the file takes int32, from -2147483648 to \
2147483647
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
        raise ValueError(f"{name} contains {outside.flat[0]}, but the file takes {kind}, from "
                         f"{limits.min} to {limits.max}")
    return array.astype(kind)
