"""Follow the wiring of segments; of a route, run only the branches that samples take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import Fork, ModelSpec, Wiring
from edgewright.errors import BundleError
from edgewright.runtime.engines import Arrays

RunSegment = Callable[[int, Arrays], Arrays]
_Values = dict[str, NDArray[Any]]


@final
@dataclass(eq=False, slots=True)
class RouteResult:
    """The outputs of a batch, and on how many of its samples each segment ran.

    Attributes:
        outputs: The model's outputs, (N, ...) each.
        computed: Number of samples per segment.
    """

    outputs: Arrays
    computed: list[int]


@final
class Router:
    """Runs the segments of a routed model.

    Where each sample has its own index, the samples of a batch are divided by it, every branch runs
    on its own samples, and the results are put together in the order of the batch. Where a call has
    one index, all its samples take the same branch, as in the model itself.

    Args:
        model: A model with a wiring; its segments have been checked.

    Example:
        See `edgewright.load`.
    """

    def __init__(self, model: ModelSpec) -> None:
        self._files: Final = tuple(segment.file for segment in model.segments)
        self._wirings: Final[tuple[Wiring, ...]] = tuple(
            segment.wiring for segment in model.segments if segment.wiring is not None)
        self._inputs: Final = tuple(spec.name for spec in model.inputs)
        self._outputs: Final = tuple(spec.name for spec in model.outputs)
        self._reads: Final = tuple(frozenset(self._read_by(number))
                                   for number in range(len(self._wirings)))

    def run(self, inputs: Arrays, samples: int, run: RunSegment) -> RouteResult:
        """Run a batch.

        Args:
            inputs: The model's inputs.
            samples: Number of samples in them.
            run: Runs a segment, given its number, on the values that it takes.

        Raises:
            BundleError: An index is no branch.
        """
        computed = [0] * len(self._wirings)

        def count(segment: int, values: Arrays, samples: int) -> Arrays:
            computed[segment] += samples
            return run(segment, values)

        values = self._follow(0, dict(zip(self._inputs, inputs, strict=True)), samples, count)
        return RouteResult(tuple(values[name] for name in self._outputs), computed)

    def _follow(self, number: int, known: Mapping[str, NDArray[Any]], samples: int,
                run: Callable[[int, Arrays, int], Arrays]) -> _Values:
        """The values after a segment and everything that it leads to."""
        values, following = dict(known), number
        while True:
            wiring = self._wirings[following]
            found = run(following, tuple(values[name] for name in wiring.takes), samples)
            values.update(zip(wiring.gives, found, strict=True))
            fork = wiring.fork
            if fork is None:
                return values
            taken = list(self._divide(fork, values, samples, self._files[following]))
            parts = [(rows, self._take(fork.branches[branch], rows, values, samples, run))
                     for branch, rows in taken]
            values.update({name: _merge([(rows, part[name]) for rows, part in parts], samples)
                           for name in fork.results})
            if fork.after is None:
                return values
            following = fork.after

    def _take(self, branch: int, rows: NDArray[np.intp] | None, values: _Values, samples: int,
              run: Callable[[int, Arrays, int], Arrays]) -> _Values:
        """The values after a branch for some samples; without a copy if these are all."""
        if rows is None:
            return self._follow(branch, values, samples, run)
        part = {name: values[name][rows] for name in self._reads[branch] if name in values}
        return self._follow(branch, part, len(rows), run)

    def _divide(self, fork: Fork, values: _Values, samples: int,
                file: str) -> Iterator[tuple[int, NDArray[np.intp] | None]]:
        """The branches to run, and the samples of each; None for all of them."""
        index = np.asarray(values[fork.index])
        if index.shape != ((samples,) if fork.per_sample else ()) or index.dtype.kind not in "iu":
            raise BundleError(f"{file} decides by {index.dtype} of shape {index.shape}, expected "
                              f"one integer per {'sample' if fork.per_sample else 'call'}; "
                              "compress it again")
        if index.size and not 0 <= index.min() <= index.max() < len(fork.branches):
            raise BundleError(f"{file} decides for the branches {index.min()} to {index.max()}, "
                              f"but there are {len(fork.branches)}; compress it again")
        branches = np.unique(index).tolist()
        for branch in branches:
            yield branch, None if len(branches) == 1 else np.flatnonzero(index == branch)

    def _read_by(self, number: int) -> Iterator[str]:
        """Names that a segment, and everything it leads to, may take."""
        wiring = self._wirings[number]
        yield from wiring.takes
        if wiring.fork is not None:
            yield wiring.fork.index
            for branch in wiring.fork.branches:
                yield from self._read_by(branch)
            if wiring.fork.after is not None:
                yield from self._read_by(wiring.fork.after)


def _merge(parts: list[tuple[NDArray[np.intp] | None, NDArray[Any]]],
           samples: int) -> NDArray[Any]:
    """The results of all samples, in the order of the batch."""
    rows, values = parts[0]
    if rows is None:
        return values
    merged = np.empty((samples, *values.shape[1:]), dtype=values.dtype)
    for rows, values in parts:
        merged[rows] = values
    return merged
