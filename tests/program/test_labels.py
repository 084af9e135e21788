"""The algebra of labels: classes, and reshapes against a reference on single elements."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.program._labels import LabelClasses, reshape_labels

COUNT = 8
PAIRS = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)), max_size=12)


def one(label):
    return np.array([label])


def united(pairs):
    classes = LabelClasses()
    classes.fresh(COUNT)
    for a, b in pairs:
        classes.unite(one(a), one(b))
    return classes


def partition(pairs):
    """Connected components by repeated relabelling."""
    component = list(range(COUNT))
    for _ in range(COUNT):
        for a, b in pairs:
            component[a] = component[b] = min(component[a], component[b])
    return component


@given(PAIRS)
def test_classes_are_the_connected_components(pairs):
    roots, expected = united(pairs).all_roots(), partition(pairs)
    for a in range(COUNT):
        for b in range(COUNT):
            assert (roots[a] == roots[b]) == (expected[a] == expected[b])


@given(PAIRS)
def test_a_root_stands_for_itself(pairs):
    classes = united(pairs)
    roots = classes.all_roots()
    assert np.array_equal(roots[roots], roots)
    assert [classes.root(label) for label in range(COUNT)] == roots.tolist()


@given(PAIRS, st.sets(st.integers(0, COUNT - 1)), st.integers(0, 12))
def test_a_class_is_pinned_if_any_of_it_was(pairs, pinned, when):
    """Whether the pins come before, between or after the unions."""
    classes = LabelClasses()
    classes.fresh(COUNT)
    for step in range(len(pairs) + 1):
        if step == min(when, len(pairs)):
            classes.pin(np.array(sorted(pinned), dtype=np.int64), "pinned")
        if step < len(pairs):
            classes.unite(one(pairs[step][0]), one(pairs[step][1]))
    component = partition(pairs)
    held = {component[label] for label in pinned}
    for label in range(COUNT):
        reason = classes.reason(classes.root(label))
        assert reason == ("pinned" if component[label] in held else None)


def test_the_first_reason_is_kept():
    classes = LabelClasses()
    labels = classes.fresh(2)
    classes.pin(labels, "first")
    classes.pin(labels, "second")
    classes.pin(None, "nothing")
    classes.unite(labels[:1], labels[1:])
    assert classes.reason(classes.root(1)) == "first"


def test_match_unites_or_pins():
    classes = LabelClasses()
    a, b, c = (classes.fresh(2) for _ in range(3))
    assert classes.match(a, b, "why") is a
    assert [classes.root(label) for label in b] == [classes.root(label) for label in a]
    assert classes.match(c, None, "why") is None
    assert classes.match(None, None, "why") is None
    assert classes.reason(classes.root(c[0])) == "why"
    assert classes.reason(classes.root(a[0])) is None


def test_unite_refuses_different_lengths():
    classes = LabelClasses()
    with pytest.raises(ValueError, match="shorter"):
        classes.unite(classes.fresh(3), classes.fresh(1))


def elements(labels, sizes):
    """The one label every element of a tensor has, or -1: the slow form of labels."""
    grid = np.full(sizes, -1)
    for dim, part in enumerate(labels):
        if part is not None:
            shape = [1] * len(sizes)
            shape[dim] = -1
            grid = np.broadcast_to(part.reshape(shape), sizes)
    return np.array(grid)


@st.composite
def reshapes(draw):
    """Sizes, a tracked dimension of them, and other sizes of the same product."""
    old = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    factors = [p for size in old for p in ({4: [2, 2]}.get(size, [size])) if p > 1]
    factors = draw(st.permutations(factors))
    new = [1] * draw(st.integers(1, 4))
    for factor in factors:
        new[draw(st.integers(0, len(new) - 1))] *= factor
    return old, draw(st.integers(0, len(old) - 1)), new


@given(reshapes())
def test_a_reshape_moves_every_elements_label_or_pins_it(case):
    old, tracked, new = case
    classes = LabelClasses()
    labels = tuple(classes.fresh(size) if dim == tracked else None for dim, size in enumerate(old))
    result = reshape_labels(classes, labels, old, new, "reshaped")
    pinned = classes.reason(classes.root(0)) is not None
    assert len(result) == len(new)
    assert sum(part is not None for part in result) == (0 if pinned else 1)
    if not pinned:
        expected = elements(labels, old).reshape(new)
        assert np.array_equal(elements(result, new), expected)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3),
       st.lists(st.integers(1, 4), max_size=2), st.integers(0, 4))
def test_merging_and_splitting_again_gives_the_labels_back(before, after, extra):
    sizes = [*before, 5, *after]
    place = len(before)
    classes = LabelClasses()
    channel = classes.fresh(5)
    labels = (*[None] * place, channel, *[None] * len(after), None)
    sizes = [*sizes, extra + 1]
    merged_sizes = [*before, math.prod(sizes[place:])]
    merged = reshape_labels(classes, labels, sizes, merged_sizes, "merged")
    assert merged[-1] is not None
    back = reshape_labels(classes, merged, merged_sizes, sizes, "split")
    assert np.array_equal(back[place], channel)
    assert [part is None for part in back] == [part is None for part in labels]
    assert classes.reason(0) is None


def reshaped(old, new, tracked=(1,), batch=0):
    classes = LabelClasses()
    labels = tuple(classes.fresh(size) if dim in tracked else None for dim, size in enumerate(old))
    return classes, reshape_labels(classes, labels, old, new, "why", batch)


@pytest.mark.parametrize(("old", "new", "tracked", "batch"), [
    ((2, 8), (2, 2, 4), (1,), 0),      # a channel shuffle's view
    ((2, 3, 4), (2, 12), (1, 2), 0),   # two tracked dimensions merged
    ((2, 1), (2,), (1,), 0),           # squeezed away
    ((97, 6, 4), (582, 4), (1,), 97),  # merged into the batch
])
def test_what_a_reshape_cannot_carry_is_pinned(old, new, tracked, batch):
    classes, result = reshaped(old, new, tracked, batch)
    assert all(part is None for part in result)
    assert classes.reason(0) == "why"


def test_a_batch_in_any_place_does_not_hinder():
    classes, result = reshaped((5, 97, 6, 4), (5, 97, 24), (2,), 97)
    assert np.array_equal(result[2], np.repeat(np.arange(6), 4))
    assert classes.reason(0) is None
