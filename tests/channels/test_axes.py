"""A reshape of labelled axes is a reshape of the tensor they describe."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgewright.channels._axes import (
    BATCH,
    axes_of,
    divide,
    fixed,
    flatten,
    has_batch,
    join,
    match,
    pin,
    reshape,
    size_of,
    tracked,
)
from edgewright.channels._couplings import Couplings


def kept(dims: Any, gone: Any, batch: Any = None) -> Any:
    """A flag for every entry of a tensor: whether no index of it was removed."""
    flags = []
    for dim in dims:
        parts = [np.ones(axis // BATCH * batch if batch and axis % BATCH == 0 else axis, bool)
                 if isinstance(axis, int) else ~gone[axis] for axis in dim]
        flags.append(functools.reduce(np.logical_and.outer, parts, np.array(True)).reshape(-1))
    return functools.reduce(np.logical_and.outer, flags, np.array(True))


def atoms(classes: Any) -> Any:
    count = len(classes.root)
    return [label for label in range(count) if classes.root[label] == label
            and label not in classes.reasons and classes.atoms.diagonal()[label]]


@st.composite
def divisions(draw: Any, total: Any) -> Any:
    """Sizes that multiply to ``total``, ones among them."""
    sizes = []
    while total > 1:
        factor = draw(st.sampled_from([d for d in range(2, total + 1) if total % d == 0]))
        sizes.append(factor)
        total //= factor
        if draw(st.integers(0, 5)) == 0:
            sizes.append(1)
    return sizes


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_mask_is_reshaped_as_the_tensor_is(data: Any) -> None:
    total = data.draw(st.sampled_from([12, 24, 36, 60]))
    couplings = Couplings()
    before = data.draw(divisions(total))
    dims = tuple(tracked(couplings.fresh(size)) if data.draw(st.booleans()) else fixed(size)
                 for size in before)
    steps = [(before, dims)]
    for _ in range(data.draw(st.integers(1, 3))):
        sizes = data.draw(divisions(total))
        dims = reshape(couplings, dims, sizes, "does not nest")
        assert [size_of(dim) for dim in dims] == sizes
        steps.append((sizes, dims))
    classes = couplings.solve()
    choice = atoms(classes)
    for chosen in [[atom] for atom in choice] + [choice[::2]]:
        gone = classes.removed(np.array(chosen, dtype=np.int64))
        original = kept(steps[0][1], gone)
        for sizes, dims in steps[1:]:
            np.testing.assert_array_equal(original.reshape(sizes), kept(dims, gone))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_what_was_merged_is_divided_into_the_same_labels(data: Any) -> None:
    couplings = Couplings()
    sizes = [BATCH, *data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=4))]
    dims = (fixed(BATCH), *(tracked(couplings.fresh(size)) for size in sizes[1:]))
    cut = data.draw(st.integers(1, len(sizes)))
    merged = reshape(couplings, dims, [math.prod(sizes[:cut]), *sizes[cut:]], "")
    back = reshape(couplings, merged, sizes, "")
    for first, second in zip(dims, back, strict=True):
        assert len(first) == len(second)
        assert all(a is b or a == b for a, b in zip(first, second, strict=True))
    assert couplings.solve().reasons == {}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_flat_dimension_has_a_label_an_index(data: Any) -> None:
    couplings = Couplings()
    axes = [couplings.fresh(size) if data.draw(st.booleans()) else size
            for size in data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))]
    dim = join(axes)
    assume(axes_of(dim))
    labels = flatten(couplings, dim, "")
    classes = couplings.solve()
    assert labels is not None
    assert labels.shape == (size_of(dim),)
    for atom in atoms(classes):
        gone = classes.removed([atom])
        np.testing.assert_array_equal(~gone[labels], kept((dim,), gone))


def test_dimensions_without_labels() -> None:
    couplings = Couplings()
    assert fixed(1) == ()
    assert fixed(5) == (5,)
    assert tracked(couplings.fresh(1)) == ()
    assert tracked(couplings.fresh(0)) == (0,)
    assert join((2, 1, 3)) == (6,)
    assert size_of(()) == 1
    assert flatten(couplings, (6,), "") is None
    assert reshape(couplings, ((BATCH,), (6,)), (BATCH * 2, 3), "") == ((2 * BATCH,), (3,))


def test_extents_and_labels_alternate_in_a_dimension() -> None:
    labels = Couplings().fresh(3)
    dim = join((2, 2, labels, 1, 3, BATCH))
    assert (dim[0], dim[2]) == (4, 3 * BATCH)
    assert dim[1] is labels
    assert has_batch(dim)
    assert not has_batch(join((2, labels)))
    assert axes_of(dim) == [labels]


@pytest.mark.parametrize(("before", "after"), [
    ((12, 4), (8, 6)), ((4, 6), (6, 4)), ((5, 4), (2, 10)), ((9,), (3, 3, 1))])
def test_what_does_not_nest_is_pinned(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    couplings = Couplings()
    dims = tuple(tracked(couplings.fresh(size)) for size in before)
    result = reshape(couplings, dims, after, "does not nest")
    nests = before == (9,)
    assert (set(couplings.solve().reasons.values()) == {"does not nest"}) != nests
    assert [size_of(dim) for dim in result] == list(after)
    assert any(axes_of(dim) for dim in result) == nests


def test_a_pin_is_local_to_what_does_not_nest() -> None:
    couplings = Couplings()
    first, second, third = couplings.fresh(5), couplings.fresh(4), couplings.fresh(6)
    result = reshape(couplings, ((first,), (second,), (third,)), (5, 6, 4), "does not nest")
    assert result[0][0] is first
    assert set(couplings.solve().reasons) == {*second.tolist(), *third.tolist()}


def test_a_reshape_of_nothing_pins() -> None:
    couplings = Couplings()
    labels = couplings.fresh(4)
    assert reshape(couplings, ((labels,), (0,)), (0, 2), "empty") == ((0,), (2,))
    assert set(couplings.solve().reasons.values()) == {"empty"}


def test_a_channel_in_the_batch_is_not_listed_but_pinned() -> None:
    couplings = Couplings()
    labels = couplings.fresh(4)
    assert flatten(couplings, (BATCH, labels), "with the batch") is None
    assert set(couplings.solve().reasons.values()) == {"with the batch"}


def test_one_axis_divided() -> None:
    couplings = Couplings()
    labels = couplings.fresh(6)
    assert divide(couplings, 6, (2, 3)) == (2, 3)
    assert divide(couplings, labels, (1, 6))[1] is labels
    outer, inner = divide(couplings, labels, (2, 3))
    assert isinstance(outer, np.ndarray)
    assert isinstance(inner, np.ndarray)
    classes = couplings.solve()
    assert classes.removed([outer[1]])[labels].tolist() == [False] * 3 + [True] * 3
    assert classes.removed([inner[0]])[labels].tolist() == [True, False, False] * 2


def test_matching_ties_or_pins() -> None:
    couplings = Couplings()
    first, second, third = couplings.fresh(6), couplings.fresh(6), couplings.fresh(6)
    two, three = couplings.fresh(2), couplings.fresh(3)
    assert match(couplings, (first,), (second,), "") == (first,)
    assert match(couplings, (third,), (6,), "fixed") == (6,)
    assert match(couplings, (), (), "") == ()
    match(couplings, (first,), (two, three), "")
    classes = couplings.solve()
    assert {classes.reasons[label] for label in third.tolist()} == {"fixed"}
    gone = classes.removed([classes.root[two[1]]])
    assert gone[first].tolist() == gone[second].tolist() == [False] * 3 + [True] * 3


def test_pinning_makes_a_dimension_fixed() -> None:
    couplings = Couplings()
    labels = couplings.fresh(3)
    assert pin(couplings, (2, labels), "why") == (6,)
    assert set(couplings.solve().reasons.values()) == {"why"}
