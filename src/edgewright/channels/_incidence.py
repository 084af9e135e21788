"""Which indices of a dimension each channel occupies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


@dataclass(frozen=True, eq=False)
class Incidence:
    """Pairs of an index and a column (a channel), by columns.

    Attributes:
        indices: Along the dimension.
        columns: Ascending. A column may have several indices, an index several columns.
    """

    indices: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def of(cls, atoms: csr_array, rows: NDArray[np.int64]) -> Incidence:
        """The pairs of a sparse matrix's ``rows``, taken in order as indices."""
        starts, ends = atoms.indptr[rows], atoms.indptr[rows + 1]
        counts = ends - starts
        indices = np.repeat(np.arange(len(rows)), counts)
        offsets = np.arange(len(indices)) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = atoms.indices[np.repeat(starts, counts) + offsets].astype(np.int64)
        order = np.argsort(columns, kind="stable")
        return cls(indices[order], columns[order])

    def rows(self, column: int) -> NDArray[np.int64]:
        """The indices of one column, ascending."""
        first, end = np.searchsorted(self.columns, [column, column + 1])
        return self.indices[first:end]

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The columns there are, and how many indices each has."""
        starts = np.flatnonzero(np.diff(self.columns, prepend=-1))
        return self.columns[starts], np.diff(starts, append=len(self.columns))

    def sums(self, values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """For each of ``count`` columns the sum over its indices."""
        picked = np.asarray(values, dtype=np.float64)[self.indices]
        return np.bincount(self.columns, picked, count).astype(np.float64)
