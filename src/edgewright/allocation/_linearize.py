"""Linearizing a cost in the choices of widths, for a mixed-integer program.

With one binary variable for every choice of every group, any cost of a single group is linear. The
product of a group's choice and a linear form of other widths needs one more variable per choice: it
equals the form for the selected choice and 0 for the others. These variables are constrained to sum
to the form, which is exact at integer points (McCormick envelopes).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgewright.allocation._cost_model import Bound, Lookup
from edgewright.channels import Monomial, Polynomial, Widths

Choices = Sequence[NDArray[np.int64]]  # the widths to choose from, per group
LinearForm = tuple[tuple[int, float], ...]  # groups and their coefficients
_SAMPLES: Final = 5  # points per dimension that a line or surface is fitted to


@dataclass
class LinearizedCost:
    """A cost as sums over choices.

    Attributes:
        constant: The constant term.
        alone: For a group, the cost of each of its choices.
        products: For a group and a linear form of other groups' widths, the factor of each of the
            group's choices.
    """

    constant: float = 0.0
    alone: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    products: dict[tuple[int, LinearForm], NDArray[np.float64]] = field(default_factory=dict)

    def add_alone(self, group: int, costs: NDArray[np.float64]) -> None:
        """Add costs of a group's choices."""
        self.alone[group] = self.alone.get(group, 0.0) + costs

    def add_product(self, group: int, form: LinearForm, factors: NDArray[np.float64]) -> None:
        """Add a product of a group's choice and a form."""
        self.products[group, form] = self.products.get((group, form), 0.0) + factors


def linearize(bound: Bound, choices: Choices, around: Widths) -> LinearizedCost:
    """Express a bound in terms of choices: exact for products of two groups, else approximate.

    A product of three groups is expanded around ``around`` to first order in the narrowest of them.
    A looked-up latency is exact in the choices of one group and linear in the widths of others.
    """
    cost = LinearizedCost()
    polynomial = bound.polynomial
    for lookup in bound.lookups:
        polynomial = polynomial + _add_lookup(cost, lookup, choices)
    _add_polynomial(cost, expand_to_quadratic(polynomial, around), choices)
    return cost


def expand_to_quadratic(polynomial: Polynomial, around: Widths) -> Polynomial:
    """Expand products of more than two groups to first order."""
    while wide := [monomial for monomial in polynomial.terms if not _is_solvable(monomial)]:
        total = Polynomial({monomial: coefficient for monomial, coefficient
                            in polynomial.terms.items() if _is_solvable(monomial)})
        for monomial in wide:
            total = total + polynomial.terms[monomial] * _expand(monomial, around)
        polynomial = total
    return polynomial


def _is_solvable(monomial: Monomial) -> bool:
    powers = Counter(monomial).values()
    return len(powers) < 2 or (len(powers) == 2 and min(powers) == 1)


def _expand(monomial: Monomial, around: Widths) -> Polynomial:
    powers = Counter(monomial)
    frozen = min(powers, key=lambda group: (int(around[group]), group))
    power, width = powers[frozen], float(around[frozen])
    rest = tuple(group for group in monomial if group != frozen)
    there = float(np.prod(around[list(rest)], dtype=np.float64))
    slope = power * width ** (power - 1)
    return Polynomial({rest: width ** power}) + there * slope * (
        Polynomial.width(frozen) + -width)


def _add_polynomial(cost: LinearizedCost, polynomial: Polynomial, choices: Choices) -> None:
    cost.constant += polynomial.constant
    pairs: list[tuple[Monomial, float]] = []
    for monomial, coefficient in polynomial.terms.items():
        powers = Counter(monomial)
        if len(powers) == 1:
            (group, power), = powers.items()
            cost.add_alone(group, coefficient * choices[group].astype(np.float64) ** power)
        elif powers:
            pairs.append((monomial, coefficient))
    for (group, power), form in _collect_by_pivot(pairs).items():
        cost.add_product(group, tuple(sorted(form.items())),
                         choices[group].astype(np.float64) ** power)


def _collect_by_pivot(
        pairs: list[tuple[Monomial, float]]) -> dict[tuple[int, int], dict[int, float]]:
    """Collect products by one of their two groups, using as few different groups as possible."""
    partners = Counter(group for monomial, _ in pairs for group in set(monomial))
    forms: dict[tuple[int, int], dict[int, float]] = {}
    for monomial, coefficient in pairs:
        powers = Counter(monomial)
        pivot = max(powers, key=lambda group: (powers[group], partners[group], -group))
        other = next(group for group in powers if group != pivot)
        form = forms.setdefault((pivot, powers[pivot]), {})
        form[other] = form.get(other, 0.0) + coefficient
    return forms


def _add_lookup(cost: LinearizedCost, lookup: Lookup, choices: Choices) -> Polynomial:
    """Add a latency in terms of choices; if that is not possible, return a fitted polynomial.

    The choices of the output are preferred, because kernels compute outputs in blocks.
    """
    inputs, outputs = lookup.inputs, lookup.outputs
    groups = inputs.groups | outputs.groups
    if not groups:
        return Polynomial({(): lookup.times.at(inputs.constant, outputs.constant)})
    if len(groups) == 1:
        group = next(iter(groups))
        cost.add_alone(group, np.array([
            lookup.times.at(_evaluate_alone(inputs, group, width),
                            _evaluate_alone(outputs, group, width))
            for width in choices[group].tolist()]))
        return Polynomial({})
    if inputs.groups & outputs.groups or not lookup.times.outputs:
        return _fit_polynomial(lookup, choices)
    for by_row, pivot, other in ((False, outputs, inputs), (True, inputs, outputs)):
        if len(pivot.groups) == 1 and other.degree == 1:
            _add_lines(cost, lookup, choices, by_row)
            return Polynomial({})
    return _fit_polynomial(lookup, choices)


def _add_lines(cost: LinearizedCost, lookup: Lookup, choices: Choices, by_row: bool) -> None:
    """For each choice of one size's only group, add a line fitted over the other size."""
    pivot, other = (lookup.inputs, lookup.outputs) if by_row else (lookup.outputs, lookup.inputs)
    group = next(iter(pivot.groups))
    samples = np.linspace(*_span(other, choices), _SAMPLES)
    design = np.stack([np.ones(_SAMPLES), samples - other.constant], axis=1)
    lines = []
    for width in choices[group].tolist():
        size = _evaluate_alone(pivot, group, width)
        times = [lookup.times.at(size, sample) if by_row else lookup.times.at(sample, size)
                 for sample in samples.tolist()]
        lines.append(np.linalg.lstsq(design, np.array(times), rcond=None)[0])
    fitted = np.array(lines)
    form = tuple(sorted((monomial[0], coefficient)
                        for monomial, coefficient in other.terms.items() if monomial))
    cost.add_alone(group, fitted[:, 0])
    cost.add_product(group, form, fitted[:, 1])


def _fit_polynomial(lookup: Lookup, choices: Choices) -> Polynomial:
    """Fit ``a + b inputs + c outputs + d inputs outputs`` by least squares over the choices."""
    inputs, outputs = (np.linspace(*_span(size, choices), _SAMPLES)
                       for size in (lookup.inputs, lookup.outputs))
    grid = [(a, b) for a in inputs.tolist() for b in outputs.tolist()]
    times = np.array([lookup.times.at(a, b) for a, b in grid])
    if not lookup.times.outputs:
        grid = [(a, 0.0) for a, _ in grid]
    design = np.array([(1.0, a, b, a * b) for a, b in grid])
    found: list[float] = np.linalg.lstsq(design, times, rcond=None)[0].tolist()
    first, by_input, by_output, by_both = found
    return (lookup.inputs * by_input + lookup.outputs * by_output
            + lookup.inputs * lookup.outputs * by_both + first)


def _span(size: Polynomial, choices: Choices) -> tuple[float, float]:
    """The smallest and the largest value of a size."""
    least, greatest = (np.array([int(widths[end]) for widths in choices]) for end in (0, -1))
    return size.at(least), size.at(greatest)


def _evaluate_alone(size: Polynomial, group: int, width: int) -> float:
    """The value of a size that depends only on ``group``."""
    return sum(coefficient * float(width) ** len(monomial)
               for monomial, coefficient in size.terms.items() if set(monomial) <= {group})
