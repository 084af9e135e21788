"""Segments that return their own scores: a sample leaves where its score reaches the threshold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.runtime.conftest import parse, spec

from edgewright.bundle import Bundle
from edgewright.core import ExitRule, OperatingPoint
from edgewright.errors import BundleError, DataError
from edgewright.runtime import Session
from edgewright.runtime.early_exit import run_single_sample, run_with_exits

POINT = OperatingPoint(name="p", path=(0, 1, 2),
                       rules=(ExitRule(threshold=0.6), ExitRule(threshold=0.3)))
MASKS = np.random.default_rng(0).normal(size=(3, 30, 2, 4, 4))
SCORES = np.random.default_rng(1).random((2, 30)).astype(np.float32)


def run(segment: int, inputs: Any) -> Any:
    rows = inputs[0][:, 0].astype(int)
    if segment == 2:
        return (MASKS[2, rows],)
    return MASKS[segment, rows], SCORES[segment, rows], inputs[0]


def test_samples_leave_by_the_scores_of_their_segments() -> None:
    inputs = (np.arange(30.0)[:, None],)
    found = run_with_exits(POINT, frozenset(), inputs, run, lambda *_: True, scored=True)
    expected = np.where(SCORES[0] >= 0.6, 0, np.where(SCORES[1] >= 0.3, 1, 2))
    assert found.exits == expected.tolist()
    assert set(found.exits) == {0, 1, 2}
    np.testing.assert_array_equal(found.outputs[0], MASKS[expected, np.arange(30)])
    assert found.first_confidence == SCORES[0].tolist()
    for sample in range(30):
        alone = run_single_sample(POINT, frozenset(), (inputs[0][[sample]],), run, lambda *_: True,
                                  scored=True)
        assert alone.exits == [expected[sample]]
        assert alone.first_confidence == [SCORES[0, sample]]
        np.testing.assert_array_equal(alone.outputs[0], found.outputs[0][[sample]])


def test_a_deadline_cuts_short_with_the_output_so_far() -> None:
    inputs = (np.arange(30.0)[:, None],)
    found = run_with_exits(POINT, frozenset(), inputs, run, lambda segment, _: segment != 2,
                           scored=True)
    cut = np.flatnonzero(found.cut_short)
    assert len(cut)
    np.testing.assert_array_equal(found.outputs[0][cut], MASKS[1, cut])


@pytest.mark.parametrize("outputs", [
    (np.zeros((2, 3)), np.zeros((2, 4))), (np.zeros((2, 3)), np.zeros((2, 1)), np.zeros((2, 4)))])
@pytest.mark.parametrize("run_point", [run_with_exits, run_single_sample])
def test_a_segment_without_its_score_is_refused(outputs: Any, run_point: Any) -> None:
    with pytest.raises(DataError, match=r"expected its output \(N, ...\), its score \(N,\)"):
        run_point(POINT, frozenset(), (np.zeros((2, 1)),), lambda *_: outputs, lambda *_: True,
                  scored=True)


@pytest.fixture
def masking(make_bundle: Callable[..., Bundle]) -> Bundle:
    """Per-pixel outputs; the score of the early exit is the mean of its input."""
    early = parse("""s (float[N, 4, 4] x) => (float[N, 4, 4] output_0, float[N] score,
                     float[N, 4, 4] features) { output_0 = Neg(x) features = Abs(x)
                     flat = Flatten(x) score = ReduceMean<axes = [1], keepdims = 0>(flat) }""")
    late = parse("s (float[N, 4, 4] x) => (float[N, 4, 4] output_0) { output_0 = Sqrt(x) }")
    bundle = make_bundle([early, late], (spec("x", None, 4, 4),), (spec("output_0", None, 4, 4),),
                         (0.5,))
    first, last = bundle.manifest.model.segments
    return replace(bundle, manifest=bundle.manifest.with_model(
        segments=(first.replace(score="score"), last), goal="segmentation"))


def test_a_session_compares_the_score_of_the_file(masking: Bundle) -> None:
    session = Session(masking)
    x = np.stack([np.full((4, 4), value, np.float32) for value in (0.9, 0.1, 0.5)])
    found = session(x)
    assert found.exit.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.output[[0, 2]], -x[[0, 2]])
    np.testing.assert_allclose(found.output[1], np.sqrt(x[1]))
    early, full = session.run_all_exits(x)
    assert early.scores is not None
    np.testing.assert_allclose(early.scores, [0.9, 0.1, 0.5], rtol=1e-6)
    assert full.scores is None
    assert session.stats().exits == (2, 1)
    for row in range(3):
        assert session(x[[row]]).exit.tolist() == found.exit[[row]].tolist()


def test_a_manifest_that_scores_twice_is_refused(masking: Bundle) -> None:
    point = masking.manifest.model.points[0].replace(policy="margin")
    wrong = replace(masking, manifest=masking.manifest.with_model(points=(point,)))
    with pytest.raises(BundleError, match=r"operating point 'default' .* the exit policy 'margin'"):
        Session(wrong)
