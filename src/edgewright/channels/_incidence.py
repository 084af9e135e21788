"""Which indices of a dimension each channel occupies, and sums over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class Incidence:
    """Pairs of an index and a column (a channel), sorted by column.

    Attributes:
        indices: Indices along the dimension.
        columns: Column of each index, ascending. A column may have several indices (ascending), and
            an index several columns (a head and a width).
        count: Number of columns, including those without an index.
    """

    indices: NDArray[np.int64]
    columns: NDArray[np.int64]
    count: int

    @classmethod
    def none(cls, count: int) -> Incidence:
        """An incidence without pairs, with ``count`` columns."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), count)

    @classmethod
    def of(cls, atoms: csr_array, rows: NDArray[np.int64]) -> Incidence:
        """The nonzero entries in ``rows`` of a sparse matrix; indices are positions in ``rows``."""
        starts, ends = atoms.indptr[rows], atoms.indptr[rows + 1]
        counts = ends - starts
        indices = np.repeat(np.arange(len(rows)), counts)
        offsets = np.arange(len(indices)) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = atoms.indices[np.repeat(starts, counts) + offsets].astype(np.int64)
        order = np.argsort(columns, kind="stable")
        return cls(indices[order], columns[order], atoms.shape[1])

    def rows(self, column: int) -> NDArray[np.int64]:
        """The indices of one column, ascending."""
        first, end = np.searchsorted(self.columns, [column, column + 1])
        return self.indices[first:end]

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The columns that have indices, and the number of indices of each."""
        starts = np.flatnonzero(np.diff(self.columns, prepend=-1))
        return self.columns[starts], np.diff(starts, append=len(self.columns))

    def block(self, span: slice) -> NDArray[np.int64]:
        """Indices of the columns in ``span``, one row per column.

        If columns have different numbers of indices, rows are cut to the shortest.
        """
        counts = np.bincount(self.columns, minlength=self.count)
        starts = (np.cumsum(counts) - counts)[span]
        offsets = np.arange(counts[span].min(initial=len(self.indices)))
        rows: NDArray[np.int64] = self.indices[starts[:, None] + offsets]
        return rows

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum values over the indices of each column, (count,)."""
        picked = np.asarray(values, dtype=np.float64)[self.indices]
        return np.bincount(self.columns, picked, self.count).astype(np.float64)

    def gather(self, values: Tensor) -> Tensor:
        """Sum over the indices of each column: (..., size) to (..., count), float64."""
        sums = torch.zeros(*values.shape[:-1], self.count, dtype=torch.float64)
        picked = values[..., torch.from_numpy(self.indices)].double().cpu()
        return sums.index_add_(-1, torch.from_numpy(self.columns), picked)
