"""Thresholds: within the accuracy allowed, cheap, and what the runtime then does."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core import Budget
from edgewright.errors import UsageError
from edgewright.exits import NEVER, choose_thresholds
from edgewright.pipeline import Recipe
from edgewright.pipeline._assemble import Assembly
from edgewright.runtime import Session, confidence


def sureness(rows):
    """Top softmax probability of each row, as the runtime takes it."""
    found = confidence(rows).tolist()
    for row, value in zip(rows.tolist(), found, strict=True):
        assert value == pytest.approx(1 / sum(math.exp(other - max(row)) for other in row))
    return found


def walk(logits, targets, macs, values):
    """Share at each exit, accuracy and mean MACs, one sample at a time."""
    sure = [sureness(rows) for rows in logits[:-1]]
    counts, hits, spent = [0] * len(logits), 0, 0
    for sample, target in enumerate(targets):
        for index, rows in enumerate(logits):
            spent += macs[index]
            if index == len(logits) - 1 or sure[index][sample] >= values[index]:
                counts[index] += 1
                row = rows[sample].tolist()
                hits += row.index(max(row)) == target
                break
    total = len(targets)
    return [count / total for count in counts], hits / total, spent / total


def cases(exits, samples=(1, 8)):
    @st.composite
    def draw(draw):
        count, seed = draw(st.integers(*samples)), draw(st.integers(0, 10_000))
        rng = np.random.default_rng(seed)
        targets = rng.integers(0, 3, count)
        signal = np.eye(3)[targets] * 2
        logits = [(signal * (i + 1) / exits + rng.normal(size=(count, 3)) * 2).round(draw(
            st.sampled_from([0, 3]))).astype(np.float32) for i in range(exits + 1)]
        macs = [draw(st.integers(1, 50)) for _ in range(exits + 1)]
        return logits, targets, macs, draw(st.sampled_from([0.0, 0.01, 0.1, 0.5]))
    return draw()


FEW = settings(max_examples=60, deadline=None, derandomize=True)


@FEW
@given(st.integers(0, 3).flatmap(lambda exits: cases(exits, (1, 40)) if exits else cases(1)))
def test_the_outcome_is_as_told_and_as_allowed(case):
    logits, targets, macs, drop = case
    chosen = choose_thresholds(logits, targets, macs, max_drop=drop)
    shares, accuracy, mean_macs = walk(logits, targets, macs, chosen.values)
    assert chosen.exit_shares == pytest.approx(shares)
    assert chosen.accuracy == pytest.approx(accuracy)
    assert chosen.mean_macs == pytest.approx(mean_macs)
    never = walk(logits, targets, macs, [NEVER] * (len(logits) - 1))
    assert chosen.full_accuracy == pytest.approx(never[1])
    assert chosen.accuracy >= chosen.full_accuracy - drop - 1e-9
    assert chosen.mean_macs <= never[2] + 1e-9
    assert sum(chosen.exit_shares) == pytest.approx(1)


@FEW
@given(st.integers(1, 2).flatmap(lambda exits: cases(exits, (1, 6))))
def test_no_legal_choice_is_cheaper_than_the_best_of_all(case):
    logits, targets, macs, drop = case
    grids = [sorted({*sureness(rows), NEVER}) for rows in logits[:-1]]
    outcomes = [walk(logits, targets, macs, values) for values in itertools.product(*grids)]
    full = walk(logits, targets, macs, [NEVER] * len(grids))[1]
    best = min(cost for _, accuracy, cost in outcomes if accuracy >= full - drop - 1e-9)
    chosen = choose_thresholds(logits, targets, macs, max_drop=drop)
    assert best - 1e-9 <= chosen.mean_macs
    if drop == 0.5 and all(accuracy >= full - drop for _, accuracy, _ in outcomes):
        assert chosen.mean_macs == pytest.approx(best)  # nothing stands in the way


@FEW
@given(cases(1, (1, 40)))
def test_one_exit_takes_the_surest_until_the_next_would_cost_too_much(case):
    logits, targets, macs, drop = case
    full = walk(logits, targets, macs, [NEVER])[1]
    want = walk(logits, targets, macs, [NEVER])
    for value in sorted(set(sureness(logits[0])), reverse=True):
        outcome = walk(logits, targets, macs, [value])
        if outcome[1] < full - drop - 1e-9:
            break
        want = outcome
    chosen = choose_thresholds(logits, targets, macs, max_drop=drop)
    assert chosen.exit_shares == pytest.approx(want[0])
    assert chosen.mean_macs == pytest.approx(want[2])


def test_an_exit_that_is_always_wrong_is_never_taken():
    good = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]] * 9
    chosen = choose_thresholds([-good, good], np.array([0, 1, 2, 0]), [1, 99], max_drop=0.0)
    assert (chosen.values, chosen.exit_shares) == ((NEVER,), (0.0, 1.0))
    assert (chosen.accuracy, chosen.mean_macs) == (1.0, 100.0)


def test_without_exits_there_is_nothing_to_choose():
    logits = np.eye(2, dtype=np.float32)
    chosen = choose_thresholds([logits], np.array([0, 0]), [7], max_drop=0.1)
    assert (chosen.values, chosen.accuracy, chosen.mean_macs) == ((), 0.5, 7.0)
    assert chosen.exit_shares == (1.0,)


def test_exits_and_segments_must_agree():
    with pytest.raises(UsageError, match="2 exits and 3 segments do not match"):
        choose_thresholds([np.zeros((1, 2), np.float32)] * 2, np.array([0]), [1, 2, 3],
                          max_drop=0.1)


@pytest.fixture(scope="module")
def draft(staged, quadrant_task):
    """The staged program as a bundle that nobody leaves early."""
    return Assembly(task=quadrant_task, budget=Budget(), recipe=Recipe(), exits=None, seed=0,
                    model="small").draft(staged)


@pytest.mark.parametrize("drop", [0.0, 0.02, 0.3])
def test_a_session_does_what_was_chosen(draft, staged, quadrant_task, drop):
    (inputs, targets), = [(batch.inputs[0].numpy(), batch.targets.numpy())
                          for batch in quadrant_task.val.batches(1000)]
    logits = [outputs[0] for outputs in Session(draft).run_all_exits(inputs)]
    macs = [segment.macs for segment in draft.manifest.segments]
    assert sum(macs) == staged.costs().macs
    chosen = choose_thresholds(logits, targets, macs, max_drop=drop)
    segments = tuple(segment.model_copy(update={"threshold": value}) for segment, value in zip(
        draft.manifest.segments, (*chosen.values, None), strict=True))
    manifest = draft.manifest.model_copy(update={"segments": segments})
    session = Session(replace(draft, manifest=manifest))
    found = session(inputs)
    shares = np.bincount(found.exit, minlength=3) / len(targets)
    assert shares.tolist() == list(chosen.exit_shares)
    assert (found.output.argmax(1) == targets).mean() == chosen.accuracy
    assert np.cumsum(macs)[found.exit].mean() == chosen.mean_macs
    if drop > 0.1:
        assert chosen.exit_shares[0] > 0.3
