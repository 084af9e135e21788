"""Polynomials in the groups' widths, for shapes and costs as functions of the widths."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

Monomial = tuple[int, ...]  # indices of groups in ascending order, repeated for powers
Widths = NDArray[np.int64]  # number of channels kept, one per group


@final
@dataclass(frozen=True)
class Polynomial:
    """A sum of products of group widths; it adds and multiplies like a number.

    Attributes:
        terms: Monomial to coefficient; the empty monomial is the constant.

    Example:
        >>> first, second = Polynomial.width(0), Polynomial.width(1)
        >>> (9 * first * second + second + 5).at(np.array([2, 10]))
        195.0
    """

    terms: Mapping[Monomial, float]

    @classmethod
    def width(cls, group: int) -> Polynomial:
        """The width of one group."""
        return cls({(group,): 1.0})

    def __add__(self, other: Polynomial | float) -> Polynomial:
        total = dict(self.terms)
        for monomial, coefficient in _terms(other).items():
            total[monomial] = total.get(monomial, 0.0) + coefficient
        return Polynomial(total)

    __radd__ = __add__

    def __mul__(self, other: Polynomial | float) -> Polynomial:
        total: Counter[Monomial] = Counter()
        for left, a in self.terms.items():
            for right, b in _terms(other).items():
                total[tuple(sorted(left + right))] += a * b  # type: ignore[assignment]
        return Polynomial(dict(total))

    __rmul__ = __mul__

    @property
    def degree(self) -> int:
        """Largest number of widths that are multiplied with each other."""
        return max(map(len, self.terms), default=0)

    @property
    def groups(self) -> frozenset[int]:
        """Every group whose width is in the polynomial."""
        return frozenset(group for monomial in self.terms for group in monomial)

    @property
    def constant(self) -> float:
        """The constant term."""
        return self.terms.get((), 0.0)

    def at(self, widths: Widths) -> float:
        """The value for the given widths, one per group."""
        return sum(coefficient * math.prod(float(widths[group]) for group in monomial)
                   for monomial, coefficient in self.terms.items())


@final
class PolynomialStack:
    """Several polynomials that are evaluated together, quickly.

    Example:
        >>> first, second = Polynomial.width(0), Polynomial.width(1)
        >>> PolynomialStack([first * second, first + 1]).at(np.array([2, 10])).tolist()
        [20.0, 3.0]
    """

    def __init__(self, polynomials: Sequence[Polynomial]) -> None:
        by_degree: dict[int, list[Monomial]] = {}
        for monomial in sorted({key for each in polynomials for key in each.terms}):
            by_degree.setdefault(len(monomial), []).append(monomial)
        self._parts = [
            (np.array([[each.terms.get(monomial, 0.0) for monomial in monomials]
                       for each in polynomials]),
             np.array(monomials, dtype=np.int64))
            for monomials in by_degree.values()]
        self._count = len(polynomials)

    def at(self, widths: Widths) -> NDArray[np.float64]:
        """The value of each polynomial for the given widths, one per group."""
        values = np.zeros(self._count)
        exact = widths.astype(np.float64)
        for coefficients, monomials in self._parts:
            values += coefficients @ exact[monomials].prod(axis=1)
        return values


def _terms(value: Polynomial | float) -> Mapping[Monomial, float]:
    return value.terms if isinstance(value, Polynomial) else {(): float(value)}
