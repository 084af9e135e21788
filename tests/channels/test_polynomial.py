"""Polynomials add, multiply and evaluate as numbers do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.channels import Polynomial, PolynomialStack

MONOMIALS = st.lists(st.integers(0, 3), max_size=3).map(lambda groups: tuple(sorted(groups)))
POLYNOMIALS = st.dictionaries(MONOMIALS, st.integers(-9, 9).map(float), max_size=5).map(Polynomial)
WIDTHS = st.lists(st.integers(0, 20), min_size=4, max_size=4).map(np.array)
ALGEBRA = settings(max_examples=80, deadline=None, derandomize=True)


@ALGEBRA
@given(first=POLYNOMIALS, second=POLYNOMIALS, number=st.integers(-5, 5), widths=WIDTHS)
def test_values_of_sums_and_products_are_sums_and_products_of_values(first: Any, second: Any,
                                                                     number: Any,
                                                                     widths: Any) -> None:
    a, b = first.at(widths), second.at(widths)
    assert (first + second).at(widths) == pytest.approx(a + b)
    assert (first * second).at(widths) == pytest.approx(a * b)
    assert (number + first * number).at(widths) == pytest.approx(number + a * number)
    assert (number * first + number).at(widths) == pytest.approx(number * a + number)


@ALGEBRA
@given(polynomials=st.lists(POLYNOMIALS, min_size=1, max_size=4), widths=WIDTHS)
def test_a_stack_evaluates_each(polynomials: Any, widths: Any) -> None:
    stack = PolynomialStack(polynomials)
    assert stack.at(widths) == pytest.approx([each.at(widths) for each in polynomials])


def test_degree_groups_and_constant() -> None:
    polynomial = Polynomial({(): 7.0, (2,): 1.0, (0, 0, 3): 2.0})
    assert (polynomial.degree, polynomial.constant) == (3, 7.0)
    assert polynomial.groups == {0, 2, 3}
    assert (Polynomial({}).degree, Polynomial({}).constant) == (0, 0)
    assert Polynomial({}).groups == set()
