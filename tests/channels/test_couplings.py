"""Every removal the solver allows keeps every fact it was told, and it allows what it can."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.channels._couplings import Couplings


def free_atoms(classes: Any) -> Any:
    """The labels that can be chosen."""
    return [label for label in range(len(classes.root))
            if classes.root[label] == label and classes.atoms[[label], [label]][0] > 0
            and label not in classes.reasons]


def removed_sets(classes: Any, count: int) -> Any:
    """The labels among the first ``count`` that go with each atom."""
    return sorted(tuple(np.flatnonzero(classes.removed([atom])[:count]).tolist())
                  for atom in free_atoms(classes))


def breaks(facts: Any, gone: Any) -> Any:
    """The first fact that a removal breaks, found by looking at each."""
    unions, pins, products = facts
    for first, second in unions:
        if gone[first] != gone[second]:
            return "union", first, second
    for label in pins:
        if gone[label]:
            return "pin", label
    for cells, factors in products:
        for place in itertools.product(*map(range, cells.shape)):
            wanted = any(gone[factor[index]] for factor, index in zip(factors, place, strict=True))
            if gone[cells[place]] != wanted:
                return "product", place
    return None


def told(count: int, facts: Any) -> Any:
    couplings = Couplings()
    couplings.fresh(count)
    unions, pins, products = facts
    for first, second in unions:
        couplings.unite(np.array([first]), np.array([second]))
    for label in pins:
        couplings.pin(np.array([label]), "told")
    for cells, factors in products:
        couplings.product(cells, factors)
    return couplings


@st.composite
def systems(draw: Any) -> Any:
    """Random facts about few labels, cycles and contradictions among them."""
    count = draw(st.integers(4, 24))
    label = st.integers(0, count - 1)

    def array(size: Any) -> Any:
        distinct = draw(st.booleans()) and size <= count
        return np.array(draw(st.lists(label, min_size=size, max_size=size, unique=distinct)))

    products = []
    for shape in draw(st.lists(st.sampled_from([(2, 2), (2, 3), (3, 2), (2, 2, 2), (4, 2)]),
                               max_size=4)):
        cells = array(math.prod(shape)).reshape(shape)
        products.append((cells, tuple(array(size) for size in shape)))
    unions = draw(st.lists(st.tuples(label, label), max_size=3))
    pins = draw(st.lists(label, max_size=2))
    return count, (unions, pins, products)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(system=systems(), seed=st.integers(0, 99))
def test_every_removal_keeps_every_fact(system: Any, seed: Any) -> None:
    count, facts = system
    classes = told(count, facts).solve()
    atoms = free_atoms(classes)
    rng = np.random.default_rng(seed)
    choices = [[atom] for atom in atoms]
    choices += [rng.permutation(atoms)[:size].tolist() for size in range(len(atoms) + 1)]
    for chosen in choices:
        assert breaks(facts, classes.removed(np.array(chosen, dtype=np.int64))) is None


@st.composite
def dimensions(draw: Any) -> tuple[Any, ...]:
    """Facts as a network tells them: one dimension of 12 or 24, divided in several ways."""
    size = draw(st.sampled_from([12, 24]))
    chains = [chain for length in (2, 3) for chain in itertools.product(range(2, size),
                                                                        repeat=length)
              if math.prod(chain) == size]
    products, count = [], size
    for chain in draw(st.lists(st.sampled_from(chains), min_size=1, max_size=3)):
        cells = np.arange(size).reshape(chain)
        if draw(st.booleans()):
            order = draw(st.permutations(range(len(chain))))
            cells = cells.transpose(order)
        factors = []
        for width in cells.shape:
            factors.append(np.arange(count, count + width))
            count += width
        products.append((cells, tuple(factors)))
    pins = draw(st.lists(st.integers(0, count - 1), max_size=1))
    return count, ([], pins, products)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(system=dimensions())
def test_every_removal_of_a_divided_dimension_keeps_every_fact(system: Any) -> None:
    count, facts = system
    classes = told(count, facts).solve()
    for atom in free_atoms(classes):
        assert breaks(facts, classes.removed([atom])) is None
    if not facts[1] and len(facts[2]) == 1:
        assert len(free_atoms(classes)) == sum(len(factor) for factor in facts[2][0][1])


def divided(couplings: Any, size: Any, *shape: Any) -> tuple[Any, ...]:
    """A dimension of ``size`` labels and its factors."""
    cells = couplings.fresh(size)
    return cells, *more_factors(couplings, cells, *shape)


def more_factors(couplings: Any, cells: Any, *shape: Any) -> Any:
    factors = [couplings.fresh(width) for width in shape]
    couplings.product(cells, factors)
    return factors


def test_unions_are_classes() -> None:
    couplings = Couplings()
    first, second = couplings.fresh(4), couplings.fresh(4)
    couplings.unite(first, second[::-1].copy())
    couplings.pin(second[:1], "an end")
    couplings.pin(first[3:], "too late")
    classes = couplings.solve()
    assert classes.root.tolist() == [0, 1, 2, 3, 3, 2, 1, 0]
    assert free_atoms(classes) == [0, 1, 2]
    assert classes.reasons == {3: "an end"}
    assert np.flatnonzero(classes.removed([0, 2])).tolist() == [0, 2, 5, 7]


def test_unlike_shapes_cannot_be_united() -> None:
    couplings = Couplings()
    with pytest.raises(ValueError, match=r"labels of shapes \(2,\) and \(3,\) cannot be united"):
        couplings.unite(couplings.fresh(2), couplings.fresh(3))


def test_heads_and_their_width() -> None:
    couplings = Couplings()
    cells, heads, width = divided(couplings, 6, 2, 3)
    classes = couplings.solve()
    assert removed_sets(classes, 6) == [(0, 1, 2), (0, 3), (1, 4), (2, 5), (3, 4, 5)]
    assert np.flatnonzero(classes.removed([heads[0], width[2]])[:6]).tolist() == [0, 1, 2, 5]
    assert cells.tolist() == list(range(6))


@pytest.mark.parametrize("coarse_first", [True, False])
def test_a_finer_division_refines_a_coarser_one(coarse_first: bool) -> None:
    """(3 heads' worth, width) against (3, heads, width), as in a fused projection."""
    couplings = Couplings()
    cells = couplings.fresh(24)
    shapes = [(6, 4), (3, 2, 4)]
    for shape in shapes if coarse_first else reversed(shapes):
        more_factors(couplings, cells, *shape)
    fine = np.arange(24).reshape(3, 2, 4)
    expected = [tuple(np.sort(fine.take(index, axis)).ravel().tolist())
                for axis, size in enumerate(fine.shape) for index in range(size)]
    assert removed_sets(couplings.solve(), 24) == sorted(expected)


def test_divisions_that_overlap_meet_in_a_finer_one() -> None:
    """(4, 3) and (2, 6) of twelve are both made of (2, 2, 3)."""
    couplings = Couplings()
    cells = couplings.fresh(12)
    more_factors(couplings, cells, 4, 3)
    more_factors(couplings, cells, 2, 6)
    fine = np.arange(12).reshape(2, 2, 3)
    expected = [tuple(np.sort(fine.take(index, axis)).ravel().tolist())
                for axis, size in enumerate(fine.shape) for index in range(size)]
    assert removed_sets(couplings.solve(), 12) == sorted(expected)


def test_a_factor_divided_again() -> None:
    couplings = Couplings()
    _, first, _ = divided(couplings, 12, 6, 2)
    more_factors(couplings, first, 2, 3)
    fine = np.arange(12).reshape(2, 3, 2)
    expected = [tuple(np.sort(fine.take(index, axis)).ravel().tolist())
                for axis, size in enumerate(fine.shape) for index in range(size)]
    assert removed_sets(couplings.solve(), 12) == sorted(expected)


def test_a_shuffled_product_keeps_its_larger_factor() -> None:
    """The same cells as (2, 4) and, shuffled, as (2, 4) of another order."""
    couplings = Couplings()
    cells, *_ = divided(couplings, 8, 2, 4)
    shuffled = cells.reshape(2, 4).T.reshape(-1)
    more_factors(couplings, shuffled, 2, 4)
    classes = couplings.solve()
    sets = removed_sets(classes, 8)
    assert sets
    grid, other = np.arange(8).reshape(2, 4), shuffled.reshape(2, 4)
    for gone in sets:
        for order in (grid, other):
            flags = np.isin(order, gone)
            rows, columns = np.asarray(flags.all(1)), np.asarray(flags.all(0))
            np.testing.assert_array_equal(flags, rows[:, None] | columns[None, :])


def test_a_transposed_product_keeps_its_larger_factor() -> None:
    """(2, 4) and (4, 2) of the same cells, one the other's transpose: the smaller one stays."""
    couplings = Couplings()
    cells, *_ = divided(couplings, 8, 2, 4)
    more_factors(couplings, cells.reshape(2, 4).T.reshape(-1), 4, 2)
    assert removed_sets(couplings.solve(), 8) == [(0, 4), (1, 5), (2, 6), (3, 7)]


def test_a_pinned_cell_pins_its_factors() -> None:
    couplings = Couplings()
    cells, heads, width = divided(couplings, 6, 2, 3)
    couplings.pin(cells[4:5], "read alone")
    classes = couplings.solve()
    assert {int(heads[1]), int(width[1])} <= set(classes.reasons)
    assert removed_sets(classes, 6) == [(0, 1, 2), (0, 3), (2, 5)]


def test_a_pinned_factor_leaves_a_plain_union() -> None:
    couplings = Couplings()
    _, heads, _ = divided(couplings, 6, 2, 3)
    couplings.pin(heads, "fixed")
    classes = couplings.solve()
    assert removed_sets(classes, 6) == [(0, 3), (1, 4), (2, 5)]
    assert classes.families == {}


def test_all_factors_pinned_pin_the_cells() -> None:
    couplings = Couplings()
    _, heads, width = divided(couplings, 6, 2, 3)
    couplings.pin(heads, "fixed")
    couplings.pin(width, "fixed too")
    classes = couplings.solve()
    assert removed_sets(classes, 6) == []
    assert not classes.removed([]).any()


def test_united_cells_unite_their_factors() -> None:
    couplings = Couplings()
    cells, heads, _ = divided(couplings, 6, 2, 3)
    couplings.unite(cells[:3], cells[3:])
    classes = couplings.solve()
    assert classes.root[heads[0]] == classes.root[heads[1]]


def test_a_label_made_of_itself_ends() -> None:
    couplings = Couplings()
    labels = couplings.fresh(4)
    couplings.product(labels, (labels[:2].copy(), labels[2:].copy()))
    classes = couplings.solve()
    facts: tuple[Any, ...] = ([], [], [(labels.reshape(2, 2), (labels[:2], labels[2:]))])
    for atom in free_atoms(classes):
        assert breaks(facts, classes.removed([atom])) is None


def test_families_tell_factors_apart() -> None:
    couplings = Couplings()
    _, heads, width = divided(couplings, 4, 2, 2)
    families = couplings.solve().families
    assert families[int(heads[0])] == families[int(heads[1])] != families[int(width[0])]
