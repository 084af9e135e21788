"""Masks: counts, order, ties and blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewright.pruning._masks import keep_highest_per_block, mask_lowest

SHAPES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=3)
SPARSITIES = st.floats(0, 1)


def random_integers(shape: Any, seed: int) -> Any:
    """Random integers from a small range, so that many are equal."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


@given(SHAPES, SPARSITIES, st.integers(0, 99))
def test_layer_scope_masks_the_lowest_and_the_first_of_equal_scores(shapes: Any, sparsity: Any,
                                                                    seed: Any) -> None:
    scores = {str(i): random_integers(shape, seed + i) for i, shape in enumerate(shapes)}
    masks = mask_lowest(scores, sparsity, "layer")
    for name, values in scores.items():
        flat = values.flatten().tolist()
        order = sorted(range(len(flat)), key=lambda i: (flat[i], i))
        masked = set(order[: round(sparsity * len(flat))])
        assert masks[name].flatten().tolist() == [i not in masked for i in range(len(flat))]


@given(SHAPES, SPARSITIES, st.integers(0, 99))
def test_global_scope_masks_the_lowest_but_keeps_the_highest_of_each_layer(shapes: Any, sparsity: Any,
                                                                           seed: Any) -> None:
    scores = {str(i): random_integers(shape, seed + i) for i, shape in enumerate(shapes)}
    masks = mask_lowest(scores, sparsity, "global")
    flat: list[float] = []
    protected = set()
    for values in scores.values():
        listed = values.flatten().tolist()
        protected.add(len(flat) + listed.index(max(listed)))
        flat += listed
    order = sorted(range(len(flat)), key=lambda i: (i in protected, flat[i], i))
    masked = set(order[: round(sparsity * len(flat))]) - protected
    kept = torch.cat([mask.flatten() for mask in masks.values()]).tolist()
    assert kept == [i not in masked for i in range(len(flat))]
    assert all(bool(mask.any()) for mask in masks.values())


@pytest.mark.parametrize(("keep", "block"), [(2, 4), (1, 4), (1, 2), (4, 8), (3, 4)])
@pytest.mark.parametrize("kernel", [(), (3,), (3, 2)])
def test_blocks_are_along_the_input_channels_at_each_kernel_position(keep: int, block: int,
                                                                     kernel: tuple[Any, ...] | tuple[int, ...]) -> None:
    scores = random_integers((5, 3 * block, *kernel), seed=1)
    mask = keep_highest_per_block(scores, keep, block)
    assert mask.shape == scores.shape
    values, flags = (t.reshape(5, 3 * block, -1) for t in (scores, mask))
    for out in range(5):
        for place in range(values.shape[2]):
            for start in range(0, 3 * block, block):
                part = values[out, start:start + block, place].tolist()
                order = sorted(range(block), key=lambda i: (part[i], i))
                want = [i in order[block - keep:] for i in range(block)]
                assert flags[out, start:start + block, place].tolist() == want
