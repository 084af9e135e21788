"""Building and solving a mixed-integer linear program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

_GAP: Final = 1e-4
_NODES: Final = 20_000  # stops a search at the same point on every machine
_SECONDS: Final = 10.0  # stops a search that would take far too long

Indices = NDArray[np.int64]


@final
@dataclass(frozen=True)
class Optimum:
    """The best point found.

    Attributes:
        x: The value of each variable.
        gap: Largest relative distance from the optimum that the search could not rule out.
    """

    x: NDArray[np.float64]
    gap: float


@final
class MixedIntegerProgram:
    """Maximize a linear function subject to rows ``low <= a x <= high`` and ``0 <= x <= 1``.

    Solved by HiGHS (Huangfu & Hall 2018), by default to a relative gap of 1e-4.

    Example:
        >>> program = MixedIntegerProgram()
        >>> x = program.variables(np.array([3.0, 2.0]), integer=True)
        >>> program.row(x, np.array([2.0, 1.0]), high=2.5)
        >>> found = program.solve()
        >>> found.x.round().tolist(), found.gap
        ([1.0, 0.0], 0.0)
    """

    def __init__(self) -> None:
        self._rewards: list[NDArray[np.float64]] = []
        self._integer: list[NDArray[np.int64]] = []
        self._count = 0
        self._rows: list[tuple[Indices, NDArray[np.float64]]] = []
        self._low: list[float] = []
        self._high: list[float] = []

    def variables(self, rewards: NDArray[np.float64], *, integer: bool) -> Indices:
        """Add variables between 0 and 1, one for each reward; returns their indices."""
        start = self._count
        self._count += len(rewards)
        self._rewards.append(rewards)
        self._integer.append(np.full(len(rewards), int(integer)))
        return np.arange(start, self._count)

    def row(self, indices: Indices, coefficients: NDArray[np.float64], *, low: float = -np.inf,
            high: float = np.inf) -> None:
        """Add a constraint on the variables at ``indices``; repeated indices are summed."""
        self._rows.append((indices, coefficients))
        self._low.append(low)
        self._high.append(high)

    def solve(self, gap: float = _GAP, seconds: float = _SECONDS) -> Optimum | None:
        """Find the best point; None if none was found in time or none exists.

        Args:
            gap: Allowed relative distance from the optimum.
            seconds: Longest time to search.
        """
        columns = np.concatenate([indices for indices, _ in self._rows])
        values = np.concatenate([coefficients for _, coefficients in self._rows])
        rows = np.repeat(np.arange(len(self._rows)), [len(indices) for indices, _ in self._rows])
        matrix = coo_array((values, (rows, columns)), shape=(len(self._rows), self._count)).tocsr()
        found = milp(-np.concatenate(self._rewards), integrality=np.concatenate(self._integer),
                     bounds=Bounds(0.0, 1.0),
                     constraints=LinearConstraint(matrix, self._low, self._high),
                     options={"mip_rel_gap": gap, "node_limit": _NODES, "time_limit": seconds})
        if found.x is None:
            return None
        return Optimum(np.asarray(found.x, dtype=np.float64), float(found.mip_gap or 0.0))
