"""Chosen precisions against an exhaustive search."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.allocation import PrecisionLimits, PrecisionOption, Ties, allocate_precisions
from edgewright.allocation._precisions import COSTS, total_cost
from edgewright.errors import UsageError

BITS = (None, 8, 4, 2)


def option(weights: Any, activations: Any, loss: Any, weight_count: int = 10,
           macs: int = 100) -> Any:
    """A layer's option as a program of so many weights and multiply-accumulates has it."""
    stored, read = weights or 32, activations or 32
    return PrecisionOption(weights, activations, loss, size_bytes=weight_count * stored / 8,
                           bit_ops=float(macs * stored * read), latency_ms=macs * stored / 1e4)


@st.composite
def layers(draw: Any) -> Any:
    """One to four layers with two to five options each."""
    found = {}
    for index in range(draw(st.integers(1, 4))):
        pairs = draw(st.lists(st.tuples(st.sampled_from(BITS), st.sampled_from(BITS)),
                              min_size=2, max_size=5, unique=True))
        weight_count, macs = draw(st.integers(1, 500)), draw(st.integers(1, 500))
        found[f"layer{index}"] = [
            option(weights, activations, draw(st.floats(-0.5, 10, allow_subnormal=False)),
                   weight_count, macs)
            for weights, activations in pairs]
    return found


def alike(chosen: Any, tied: Any, kind: Any) -> bool:
    return len({getattr(chosen[name], kind) for name in tied}) <= 1


def brute_force(found: Any, limits: Any, ties: Any) -> Iterator[Any]:
    """Every choice that holds the limits and the ties."""
    for options in product(*found.values()):
        chosen = dict(zip(found, options, strict=True))
        if not all(alike(chosen, tied, "weights") for tied in ties.weights) or not all(
                alike(chosen, tied, "activations") for tied in ties.activations):
            continue
        if all(total_cost(chosen, name) <= getattr(limits, name) * (1 + 1e-12)
               for name in COSTS if getattr(limits, name) is not None):
            yield chosen


def loss_of(chosen: Any) -> Any:
    return sum(option.loss for option in chosen.values())


@settings(max_examples=150, deadline=None)
@given(layers(), st.lists(st.sampled_from(COSTS), unique=True, max_size=3), st.floats(0.0, 1.0),
       st.data())
def test_no_combination_is_better(found: Any, limited: Any, share: Any, data: Any) -> None:
    """Limits are between the smallest and the largest cost of any combination."""
    bounds = {}
    for name in limited:
        costs = [[getattr(option, name) for option in options] for options in found.values()]
        low, high = sum(map(min, costs)), sum(map(max, costs))
        bounds[name] = low + share * (high - low)
    tied = data.draw(st.lists(st.sampled_from(sorted(found)), unique=True, max_size=3))
    ties = Ties(**{data.draw(st.sampled_from(("weights", "activations"))): (tuple(tied),)})
    limits = PrecisionLimits(**bounds)
    possible = list(brute_force(found, limits, ties))
    if not possible:
        with pytest.raises(UsageError, match="no choice of precisions"):
            allocate_precisions(found, limits, ties)
        return
    chosen = allocate_precisions(found, limits, ties)
    assert chosen in possible
    assert loss_of(chosen) == pytest.approx(min(map(loss_of, possible)), abs=1e-7)


def test_a_limit_equal_to_the_cost_of_a_choice_is_satisfied() -> None:
    """0.1 + 0.2 is more than 0.3 in floating point."""
    found = {"a": [PrecisionOption(8, 8, 0.0, latency_ms=9.0),
                   PrecisionOption(4, 8, 1.0, latency_ms=0.1)],
             "b": [PrecisionOption(8, 8, 0.0, latency_ms=0.2)]}
    chosen = allocate_precisions(found, PrecisionLimits(latency_ms=0.3))
    assert [option.weights for option in chosen.values()] == [4, 8]


def test_a_choice_over_a_limit_within_the_solvers_gap_is_rejected() -> None:
    """HiGHS lets rows be off by 1e-6; a millionth of 100 MB is 100 bytes."""
    found = {"a": [PrecisionOption(8, 8, 0.0, size_bytes=1e8 + 10),
                   PrecisionOption(4, 8, 1.0, size_bytes=1e8)]}
    chosen = allocate_precisions(found, PrecisionLimits(size_bytes=1e8))
    assert chosen["a"].weights == 4


def test_tied_layers_change_their_bits_together() -> None:
    found = {"a": [option(8, 8, 0.0), option(4, 8, 0.1)],
             "b": [option(8, 8, 0.0), option(4, 8, 5.0)],
             "c": [option(8, 8, 0.0), option(4, 8, 2.0)]}
    limits = PrecisionLimits(size_bytes=20.0)
    free = allocate_precisions(found, limits)
    tied = allocate_precisions(found, limits, Ties(weights=[("a", "b")]))
    assert [option.weights for option in free.values()] == [4, 8, 4]
    assert [option.weights for option in tied.values()] == [4, 4, 8]


def test_a_tie_of_activations_leaves_the_weights_free() -> None:
    found = {name: [option(w, a, cost[w] + cost[a]) for w in (8, 4) for a in (8, 4)]
             for name, cost in (("a", {8: 0.0, 4: 0.1}), ("b", {8: 0.0, 4: 3.0}))}
    limits = PrecisionLimits(bit_ops=100.0 * (8 * 8 + 4 * 8))
    chosen = allocate_precisions(found, limits, Ties(activations=[("a", "b")]))
    assert [(o.weights, o.activations) for o in chosen.values()] == [(4, 8), (8, 8)]


def test_sixty_layers_are_solved_as_by_dynamic_programming() -> None:
    """Whole costs: the least loss for each size, layer after layer."""
    found = {f"layer{index}": [option(bits, 8, (1 + index * 7 % 13) * 0.3 ** bits * 40,
                                      weight_count=8 * (1 + index * 5 % 11))
                               for bits in (8, 4, 3, 2)] for index in range(60)}
    limit = 0.55 * sum(options[0].size_bytes for options in found.values())
    best = {0: 0.0}
    for options in found.values():
        sums = [(size + int(o.size_bytes), loss + o.loss)
                for size, loss in best.items() for o in options]
        best = {}
        for size, loss in sums:
            if size <= limit:
                best[size] = min(loss, best.get(size, loss))
    chosen = allocate_precisions(found, PrecisionLimits(size_bytes=limit))
    assert total_cost(chosen, "size_bytes") <= limit
    assert loss_of(chosen) == pytest.approx(min(best.values()), rel=1e-6)


ONE = {"a": [option(8, 8, 0.0), option(4, 8, 1.0)]}


def test_an_unreachable_limit_is_refused_with_the_smallest_possible_cost() -> None:
    with pytest.raises(UsageError, match=(
            r"no choice of precisions satisfies size_bytes = 4 \(4 B\): the smallest "
            r"possible is size_bytes = 5 \(5 B\); raise the limit, or allow fewer bits")):
        allocate_precisions(ONE, PrecisionLimits(size_bytes=4))


def test_contradictory_limits_are_refused_with_the_smallest_possible_cost() -> None:
    found = {"a": [PrecisionOption(8, 8, 0.0, size_bytes=2.0, latency_ms=1.0),
                   PrecisionOption(4, 8, 1.0, size_bytes=1.0, latency_ms=2.0)]}
    with pytest.raises(UsageError, match=(
            r"satisfies latency_ms = 1 with size_bytes = 1 \(1 B\): the smallest "
            r"possible is latency_ms = 2")):
        allocate_precisions(found, PrecisionLimits(size_bytes=1.0, latency_ms=1.0))


@pytest.mark.parametrize(("found", "ties", "message"), [
    ({}, Ties(), "there are no layers whose precision could be chosen"),
    ({"a": []}, Ties(), "layer 'a' has no precision to choose from; add an option"),
    (ONE, Ties(weights=[("a", "z")]), "'z' is tied to others but is not a layer; layers: a"),
    (ONE | {"b": [option(2, 8, 0.0)]}, Ties(weights=[("a", "b")]),
     "no choice of precisions gives tied layers the same bits"),
])
def test_invalid_choices_are_refused(found: Any, ties: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        allocate_precisions(found, PrecisionLimits(), ties)


@pytest.mark.parametrize("loss", [2.2e-308, 5e-324, 1e300])
def test_losses_of_any_size_are_compared(loss: float) -> None:
    found = {"a": [PrecisionOption(8, 8, 0.0, size_bytes=2.0),
                   PrecisionOption(4, 8, loss, size_bytes=1.0)]}
    chosen = allocate_precisions(found, PrecisionLimits(size_bytes=2.0), Ties())
    assert chosen["a"].weights == 8
