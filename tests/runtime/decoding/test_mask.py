"""The class of each pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgewright.runtime import Mask
from edgewright.runtime.decoding import decode_masks

NAMES = ("sky", "tree", "road")


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 2), st.just(3), st.integers(1, 4),
                                           st.integers(1, 4)),
                     elements=st.integers(-3, 3).map(float)))
def test_masks_and_shares_are_those_of_a_reference(logits: np.ndarray) -> None:
    found = decode_masks(logits, NAMES)
    assert len(found) == len(logits)
    for mask, sample in zip(found, logits, strict=True):
        counts = dict.fromkeys(NAMES, 0)
        for row in range(sample.shape[1]):
            for column in range(sample.shape[2]):
                values = sample[:, row, column].tolist()
                assert mask.indices[row, column] == values.index(max(values))
                counts[NAMES[mask.indices[row, column]]] += 1
        assert mask.shares == pytest.approx(
            {name: count / mask.indices.size for name, count in counts.items() if count})
        assert list(mask.shares.values()) == sorted(mask.shares.values(), reverse=True)


def test_labels_without_names() -> None:
    assert decode_masks(np.zeros((1, 2, 1, 1)))[0].labels == ("class 0", "class 1")
    assert Mask(np.zeros((1, 1), np.int64), 3, NAMES).labels == NAMES


def test_positions_of_a_sequence_are_pixels_too() -> None:
    (mask,) = decode_masks(np.array([[[0.0, 2.0], [1.0, 0.0]]]))
    assert mask.indices.tolist() == [1, 0]


def test_the_classes_may_be_in_the_last_dimension() -> None:
    (mask,) = decode_masks(np.array([[[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]]]), NAMES, axis=-1)
    assert mask.indices.tolist() == [1, 0]
    assert mask.classes == 3
    assert mask.labels == NAMES
