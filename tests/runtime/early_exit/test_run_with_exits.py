"""Through the segments, against a loop over single samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest

from edgewright.core import ExitPolicy, ExitRule, OperatingPoint
from edgewright.runtime import OnnxEngine, Streaks, confidence, exit_scores
from edgewright.runtime.early_exit import run_with_exits

POINT = OperatingPoint(name="p", path=(2, 0, 1), policy="patience",
                       rules=(ExitRule(threshold=1.0), ExitRule(threshold=2.0)))


def always(segment: Any, samples: Any) -> bool:
    return True


def segments(seen: Any) -> tuple[Any, ...]:
    """Three of them: features are the inputs' rows, logits random but the same for a sample."""
    tables = np.random.default_rng(0).normal(size=(3, 40, 5))

    def run(segment: Any, inputs: Any) -> tuple[Any, ...]:
        rows = inputs[0][:, 0].astype(int)
        seen.append((segment, rows.tolist(), len(inputs)))
        return tables[segment, rows], inputs[0]

    return run, tables


@pytest.mark.parametrize("policy", ["confidence", "margin", "entropy", "patience"])
@pytest.mark.parametrize("takes_inputs", [frozenset(), frozenset({0}), frozenset({0, 1})])
def test_every_sample_leaves_where_it_would_alone(policy: ExitPolicy, takes_inputs: Any) -> None:
    level = {"confidence": 0.5, "margin": 0.3, "entropy": 0.25, "patience": 2.0}[policy]
    point = POINT.replace(policy=policy, rules=(ExitRule(threshold=level, temperature=0.7),) * 2)
    run, tables = segments([])
    found = run_with_exits(point, takes_inputs, (np.arange(40.0)[:, None], np.zeros((40, 2))), run, always)
    assert len(set(found.exits)) > 1
    np.testing.assert_array_equal(found.first_confidence, confidence(tables[2], 0.7))
    for sample in range(40):
        streaks, left = None, 2
        for step, rule in enumerate(point.rules):
            logits = tables[point.path[step], [sample]]
            streaks = Streaks.begin(logits) if streaks is None else streaks.then(logits)
            assert rule.threshold is not None
            if exit_scores(policy, rule, logits, streaks)[0] >= rule.threshold:
                left = step
                break
        assert found.exits[sample] == left
        np.testing.assert_array_equal(found.outputs[0][sample], tables[point.path[left], sample])


def test_a_segment_that_takes_the_inputs_gets_all_of_them_for_those_that_stay() -> None:
    seen: list[Any] = []
    run, _ = segments(seen)
    point = POINT.replace(policy="confidence", rules=(
        ExitRule(threshold=0.5), ExitRule(threshold=0.0)))
    inputs = (np.arange(12.0)[:, None], np.ones((12, 3)))
    found = run_with_exits(point, frozenset({2, 0}), inputs, run, always)
    staying = np.flatnonzero(found.exits).tolist()
    assert 0 < len(staying) < 12
    assert seen == [(2, list(range(12)), 2), (0, staying, 2)]


def test_those_without_time_leave_with_the_answer_they_have() -> None:
    seen: list[Any] = []
    asked: list[Any] = []
    run, tables = segments(seen)

    def has_time(segment: Any, samples: Any) -> bool:
        asked.append((segment, samples))
        return segment != 1

    point = POINT.replace(policy="confidence", rules=(
        ExitRule(threshold=0.5), ExitRule(threshold=0.5)))
    found = run_with_exits(point, frozenset(), (np.arange(40.0)[:, None],), run, has_time)
    assert [segment for segment, *_ in seen] == [2, 0]
    assert max(found.exits) == 1
    cut = np.flatnonzero(found.cut_short)
    assert len(cut) == asked[-1][1]
    np.testing.assert_array_equal(found.outputs[0][cut], tables[0, cut])
    assert all(found.exits[sample] for sample in cut)


def test_features_go_on_as_the_very_array_where_nobody_leaves() -> Any:
    model = onnx.parser.parse_model('''<ir_version: 8, opset_import: ["": 17]>
        s (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) { y = Relu(x) z = Neg(x) }''')
    engine, given = OnnxEngine(model.SerializeToString()), []

    def run(segment: Any, inputs: Any) -> Any:
        given.append(inputs[0])
        outputs = engine.run(inputs)
        given.append(outputs[-1])
        return outputs

    point = POINT.replace(rules=(ExitRule(threshold=9.0),) * 2)
    run_with_exits(point, frozenset(), (np.ones((3, 4), np.float32),), run, always)
    assert given[2] is given[1]
    assert given[4] is given[3]
    assert not given[1].flags.owndata  # it is the runtime's own memory
