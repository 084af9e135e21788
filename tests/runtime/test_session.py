"""A session against a slow, obvious reference, sample by sample."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.bundle import Bundle
from edgewright.core import ExitProfile, ExitRule, Figures, Measurement, OperatingPoint
from edgewright.errors import BundleError, DataError, UsageError
from edgewright.runtime import CallableSensor, OnnxEngine, Session, Stats, confidence, load

from .conftest import parse, spec

THRESHOLDS = (0.8, 0.6)


def _samples(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum()


def _all_exits(sample: np.ndarray, weights: dict[str, np.ndarray]) -> list[np.ndarray]:
    first = np.maximum(sample @ weights["body0"], 0)
    second = np.maximum(first @ weights["body1"], 0)
    return [sample @ weights["head0"], first @ weights["head1"], second @ weights["head2"]]


def _reference(sample: np.ndarray, weights: dict[str, np.ndarray]) -> tuple[np.ndarray, int]:
    exits = _all_exits(sample, weights)
    for index, threshold in enumerate(THRESHOLDS):
        if _softmax(exits[index]).max() >= threshold:
            return exits[index], index
    return exits[-1], len(THRESHOLDS)


class Counting:
    """An engine that does as it is told and counts the samples it was given."""

    runtime = "counting 1.0"
    seen: list[int]

    def __init__(self, outputs: Any) -> None:
        self._outputs, self.seen = outputs, []

    def run(self, inputs: Any) -> Any:
        self.seen.append(len(inputs[0]))
        return self._outputs(inputs)


def test_staged_session_equals_the_reference(staged_bundle: Bundle,
                                             weights: dict[str, np.ndarray]) -> None:
    session = Session(staged_bundle)
    samples = _samples(200)
    prediction = session(samples)
    for sample, output, left in zip(samples, prediction.output, prediction.exit, strict=True):
        logits, expected = _reference(sample, weights)
        assert left == expected
        np.testing.assert_allclose(output, logits, rtol=1e-4, atol=1e-5)
    assert set(prediction.exit.tolist()) == {0, 1, 2}
    assert prediction.latency_ms > 0
    assert len(prediction.outputs) == 1


@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_a_batch_equals_its_samples_one_by_one(staged_bundle: Bundle, count: Any,
                                               seed: Any) -> None:
    session = Session(staged_bundle)
    samples = _samples(count, seed)
    together = session(samples)
    alone = [session(sample[np.newaxis]) for sample in samples]
    assert together.exit.tolist() == [p.exit.item() for p in alone]
    np.testing.assert_allclose(together.output, np.concatenate([p.output for p in alone]),
                               rtol=1e-4, atol=1e-5)


def test_only_those_that_stay_are_computed_on(staged_bundle: Bundle) -> Any:
    sure, unsure = [9.0, 0.0, 0.0], [0.0, 0.0, 0.0]

    def early(leaving: int) -> Any:
        def outputs(inputs: Any) -> tuple[Any, ...]:
            rows = [sure if i < leaving else unsure for i in range(len(inputs[0]))]
            return np.array(rows, dtype=np.float32), inputs[0]
        return outputs

    engines = [Counting(early(2)), Counting(early(3)),
               Counting(lambda inputs: (np.ones((len(inputs[0]), 3), np.float32),))]
    pending = iter(engines)
    session = Session(staged_bundle, engine=lambda model, threads: next(pending))
    assert session(_samples(6)).exit.tolist() == [0, 0, 1, 1, 1, 2]
    assert session(_samples(2)).exit.tolist() == [0, 0]
    assert [engine.seen for engine in engines] == [[6, 2], [4], [1]]
    assert session.runtime == "counting 1.0"


def test_features_are_passed_on_in_the_order_and_type_they_have(staged_bundle: Bundle) -> None:
    received = []

    def early(inputs: Any) -> tuple[Any, ...]:
        logits = np.where(inputs[0][:, :1] > 0, 9.0, 0.0) * np.array([[1.0, 0.0, 0.0]])
        return logits.astype(np.float32), np.arange(len(logits), dtype=np.uint8)[:, np.newaxis]

    def late(inputs: Any) -> tuple[Any, ...]:
        received.append(inputs[0])
        return np.zeros((len(inputs[0]), 3), np.float32), inputs[0]

    pending = iter([Counting(early), Counting(late), Counting(late)])
    session = Session(staged_bundle, engine=lambda model, threads: next(pending))
    signs = np.array([1, -1, 1, -1, -1], dtype=np.float32)[:, np.newaxis].repeat(4, axis=1)
    assert session(signs).exit.tolist() == [0, 2, 0, 2, 2]
    assert [features.ravel().tolist() for features in received] == [[1, 3, 4], [1, 3, 4]]
    assert {features.dtype for features in received} == {np.dtype(np.uint8)}


def test_run_all_exits_ignores_thresholds_and_is_not_counted(staged_bundle: Bundle,
                                                             weights: dict[str, np.ndarray]) -> None:
    session = Session(staged_bundle)
    samples = _samples(20)
    found = session.run_all_exits(samples)
    assert [(len(one.outputs), one.scores) for one in found] == [(1, None)] * 3
    for row, sample in enumerate(samples):
        for one, expected in zip(found, _all_exits(sample, weights), strict=True):
            np.testing.assert_allclose(one.outputs[0][row], expected, rtol=1e-4, atol=1e-5)
    assert session.stats().samples == 0


def test_a_bundle_without_exits_is_one_call(whole_bundle: Bundle,
                                            weights: dict[str, np.ndarray]) -> None:
    session = Session(whole_bundle)
    first, second = _samples(5), np.arange(5)[:, np.newaxis]
    prediction = session(first, second)
    np.testing.assert_allclose(prediction.output, first @ weights["head0"], rtol=1e-5)
    np.testing.assert_array_equal(prediction.outputs[1], -second)
    assert prediction.exit.tolist() == [0] * 5
    (found,) = session.run_all_exits(first, second)
    np.testing.assert_array_equal(found.outputs[0], prediction.output)


def test_arrays_need_not_be_contiguous(staged_bundle: Bundle) -> None:
    session = Session(staged_bundle)
    wide = _samples(8).repeat(2, axis=1)[::-1]
    np.testing.assert_array_equal(session(wide[:, ::2]).output,
                                  session(wide[:, ::2].copy()).output)


def test_stats_are_the_sums_over_the_samples(staged_bundle: Bundle) -> None:
    session = Session(staged_bundle)
    assert session.stats() == Stats(calls=0, samples=0, exits=(0, 0, 0), macs=None,
                                    energy_mj=None, points={"default": 0},
                                    computed=(0, 0, 0))
    exits = [session(_samples(30, seed)).exit for seed in range(3)]
    macs = {0: 100, 1: 1100, 2: 11100}
    energy = {0: 0.5, 1: 0.75, 2: 8.75}
    left = np.concatenate(exits).tolist()
    stats = session.stats()
    assert (stats.calls, stats.samples) == (3, 90)
    assert stats.exits == tuple(left.count(index) for index in range(3))
    assert stats.macs == pytest.approx(sum(macs[index] for index in left) / 90)
    assert stats.energy_mj == pytest.approx(sum(energy[index] for index in left) / 90)
    assert sum(stats.exit_shares) == pytest.approx(1)
    assert stats.computed == tuple(sum(index >= segment for index in left) for segment in range(3))


def test_eight_threads_get_what_one_gets_and_every_call_is_counted(staged_bundle: Bundle) -> None:
    session = Session(staged_bundle)
    batches = [_samples(1 + seed % 5, seed) for seed in range(80)]
    alone = [session(batch) for batch in batches]
    before = session.stats()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(session, batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.output, other.output)
        np.testing.assert_array_equal(one.exit, other.exit)
    after = session.stats()
    assert after.calls == 2 * before.calls == 160
    assert after.exits == tuple(2 * count for count in before.exits)


def test_load_reads_the_file(staged_bundle: Bundle) -> None:
    session = load(staged_bundle.path, threads=2)
    assert session.model == staged_bundle.manifest.model
    assert session.runtime.startswith("onnxruntime 1.")


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1,
                max_size=5))
def test_confidence_is_the_top_softmax_probability(rows: Any) -> None:
    logits = np.array(rows, dtype=np.float32)
    expected = [_softmax(row - row.max()).max() for row in logits.astype(np.float64)]
    np.testing.assert_allclose(confidence(logits), expected, rtol=1e-9)


def test_confidence_of_huge_logits_does_not_overflow() -> None:
    logits = np.array([[3e38, -3e38], [-3e38, -3e38]], dtype=np.float32)
    np.testing.assert_array_equal(confidence(logits), [1.0, 0.5])


def test_a_sample_whose_logits_are_not_a_number_never_leaves_early(staged_bundle: Bundle) -> None:
    nan = np.full((1, 4), np.nan, dtype=np.float32)
    session = Session(staged_bundle, validate=False)
    assert session(nan).exit.tolist() == [2]
    assert session(np.concatenate([nan, nan])).exit.tolist() == [2, 2]


def test_exit_that_is_no_classifier(staged_bundle: Bundle) -> None:
    engine = Counting(lambda inputs: (np.zeros((1, 3, 5), np.float32), inputs[0]))
    session = Session(staged_bundle, engine=lambda model, threads: engine)
    with pytest.raises(DataError, match=r"logits of shape \(1, 3, 5\), expected \(N, classes\)"):
        session(_samples(1))


@pytest.mark.parametrize(("inputs", "message"), [
    ((), r"takes 2 inputs \(a, b\), got 0"),
    (([[1.0]], np.ones((1, 1), int)), "'a' is a list, expected a numpy array"),
    ((np.ones((2, 4)), np.ones((2, 1), int)), "'a' is float64, expected float32; use .astype"),
    ((np.ones((2, 5), "f4"), np.ones((2, 1), int)),
     r"'a' has shape \(2, 5\), expected \(N, 4\)"),
    ((np.ones((4,), "f4"), np.ones((2, 1), int)), r"'a' has shape \(4,\), expected \(N, 4\)"),
    ((np.ones((0, 4), "f4"), np.ones((0, 1), int)), "'a' is empty"),
    ((np.ones((2, 4), "f4"), np.ones((3, 1), int)), r"different batch sizes: \[2, 3\]"),
    ((np.ones((2, 4), ">f4"), np.ones((2, 1), int)), "'a' is >f4, expected float32"),
])
def test_inputs_that_the_model_does_not_take(whole_bundle: Bundle, inputs: tuple[Any, ...],
                                             message: str) -> None:
    session = Session(whole_bundle)
    for call in (session, session.run_all_exits):
        with pytest.raises(DataError, match=message):
            call(*inputs)
    assert session.stats().calls == 0


@pytest.mark.parametrize("threads", [0, -1, 2.5, "2", True, float("nan"), 10**9, None])
def test_threads_below_one(staged_bundle: Bundle, threads: Any) -> None:
    with pytest.raises(UsageError, match="threads must be a whole number from 1"):
        load(staged_bundle.path, threads=threads)


def test_what_is_no_sensor(staged_bundle: Bundle) -> None:
    for sensors in ([1], "ab"):
        with pytest.raises(UsageError, match="is not a sensor; expected an object with name, quantity and read"):
            Session(staged_bundle, sensors=sensors)  # type: ignore[arg-type]


@pytest.mark.parametrize(("graph", "shapes", "arrays", "samples"), [
    ("float[4] x) => (float[4] y) { y = Neg(x) }", [(4,)], [np.ones(4, "f4")], 1),
    ("float x) => (float y) { y = Neg(x) }", [()], [np.ones((), "f4")], 1),
    ("float[N, 4] x) => (float y) { y = ReduceSum <keepdims = 0> (x) }", [(None, 4)],
     [np.ones((5, 4), "f4")], 5),
    ("float[3, 4] t, float[N, 4] x) => (float[N, 4] y) { m = ReduceSum <keepdims = 0> (t) "
     "y = Add(x, m) }", [(3, 4), (None, 4)], [np.ones((3, 4), "f4"), np.ones((7, 4), "f4")], 7),
])
def test_samples_are_counted_where_an_input_has_no_batch_dimension(make_bundle: Callable[..., Bundle], graph: str, shapes: list[Any] | list[tuple[Any, ...]] | list[tuple[int, ...]],
                                                                   arrays: list[Any], samples: int) -> None:
    inputs = tuple(spec(f"i{i}", *shape) for i, shape in enumerate(shapes))
    session = Session(make_bundle([parse(f"g ({graph}")], inputs, (spec("y"),)))
    session.deadline_ms = 1e6
    assert session(*arrays).exit.tolist() == [0] * samples
    assert session.stats().samples == samples


@pytest.mark.parametrize(("fields", "message"), [
    ({"outputs": ()}, "has 1 inputs and 0 outputs"),
    ({"inputs": ()}, "has 0 inputs and 1 outputs"),
    ({"inputs": (spec("x", None, 4, dtype="float31"),)}, "gives 'x' the dtype 'float31', which"),
    ({"outputs": (spec("y", None, 4, dtype="("),)}, r"gives 'y' the dtype '\(', which numpy"),
])
def test_a_bundle_that_states_what_cannot_be(make_bundle: Callable[..., Bundle],
                                             fields: dict[str, Any], message: str) -> None:
    given = {"inputs": (spec("x", None, 4),), "outputs": (spec("y", None, 4),), **fields}
    bundle = make_bundle([parse("g (float[N, 4] x) => (float[N, 4] y) { y = Neg(x) }")], **given)
    with pytest.raises(BundleError, match=message):
        Session(bundle)


def test_a_model_that_does_not_give_tensors(make_bundle: Callable[..., Bundle]) -> None:
    model = parse("g (float[N, 4] x) => (seq(float[N, 4]) y) { y = SequenceConstruct(x) }")
    bundle = make_bundle([model], (spec("x", None, 4),), (spec("y", None, 4),))
    with pytest.raises(BundleError, match=r"'y' is a seq\(tensor\(float\)\), but inputs and outputs must be tensors"):
        Session(bundle)


def test_settings_may_change_while_others_call(staged_bundle: Bundle) -> Any:
    session = Session(with_point(staged_bundle, "whole", (0, 1, 2), THRESHOLDS))
    samples = _samples(32)
    expected = session(samples)

    def call(worker: int) -> bool:
        if worker % 5 == 0:
            session.point = ("default", "whole", None)[worker // 5 % 3]
            session.deadline_ms = None if worker % 2 else 1e6
            session.validate = not session.validate
        rows = np.arange(worker % 31, worker % 31 + 1 + worker % 2)
        found = session(samples[rows])
        return bool(np.allclose(found.output, expected.output[rows], atol=1e-5)
                    and (found.exit == expected.exit[rows]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(200)))
    assert session.stats().calls == 201


def test_bundle_for_another_runtime(make_bundle: Callable[..., Bundle],
                                    staged_bundle: Bundle) -> None:
    bundle = make_bundle([b""], staged_bundle.manifest.model.inputs, staged_bundle.manifest.model.outputs,
                         runtime="litert")
    with pytest.raises(BundleError, match="is for the runtime 'litert'"):
        Session(bundle)


def test_bundle_whose_model_the_runtime_refuses(make_bundle: Callable[..., Bundle],
                                                staged_bundle: Bundle) -> None:
    bundle = make_bundle([b"no model"], staged_bundle.manifest.model.inputs,
                         staged_bundle.manifest.model.outputs)
    with pytest.raises(BundleError, match=r"onnxruntime .* cannot load the model: .*export it"):
        Session(bundle)


def test_bundle_of_several_segments_that_does_not_say_when_to_leave(make_bundle: Callable[..., Bundle],
                                                                    staged_bundle: Bundle) -> None:
    manifest = staged_bundle.manifest
    bundle = make_bundle([b"", b""], manifest.model.inputs, manifest.model.outputs)
    with pytest.raises(BundleError, match="2 segments but no operating point with exit"):
        Session(bundle)


def test_bundle_with_exits_and_several_outputs(make_bundle: Callable[..., Bundle],
                                               whole_bundle: Bundle) -> None:
    manifest = whole_bundle.manifest
    bundle = make_bundle([b"", b""], manifest.model.inputs, manifest.model.outputs, thresholds=(0.5,))
    with pytest.raises(BundleError, match="only a model with one output can have early exits"):
        Session(bundle)


def test_a_point_is_chosen_by_its_name(staged_bundle: Bundle,
                                       weights: dict[str, np.ndarray]) -> None:
    session = Session(with_point(staged_bundle, "whole", (0, 1, 2), (None, None)))
    samples = _samples(50)
    assert session.point is None
    session.point = "whole"
    found = session(samples)
    assert (found.point, set(found.exit.tolist())) == ("whole", {2})
    for output, sample in zip(found.output, samples, strict=True):
        np.testing.assert_allclose(output, _all_exits(sample, weights)[2], rtol=1e-4, atol=1e-5)
    session.point = "default"
    assert set(session(samples).exit.tolist()) == {0, 1, 2}
    assert session.stats().points == {"default": 50, "whole": 50}
    with pytest.raises(UsageError, match="no operating point 'best'; it has default, whole"):
        session.point = "best"


def test_stats_count_a_segment_by_its_number_whatever_the_path(staged_bundle: Bundle) -> None:
    session = Session(with_point(staged_bundle, "last", (2,), ()))
    session.point = "last"
    features = np.ones((4, 4), dtype=np.float32)
    with pytest.raises(BundleError, match=r"the model does not accept these inputs: .*; the bundle's "
                                          "manifest and its model disagree$"):
        session(features)  # the last segment takes six features: its path is of another model
    session.point = "default"
    session(features)
    assert session.stats().samples == 4


def test_a_deadline_that_the_first_segment_cannot_meet_is_refused_by_the_next_call(staged_bundle: Bundle) -> None:
    session = Session(staged_bundle)
    session.deadline_ms = 1e-6
    for _ in range(2):
        with pytest.raises(UsageError, match=r"a deadline of 1e-06 ms cannot be met: the first "
                                             r"segment .* takes .* ms here"):
            session(_samples(3))
    assert session.stats().calls == 0
    session.deadline_ms = 1e6
    assert len(session(_samples(3)).output) == 3


def counting_session(bundle: Any, **settings: Any) -> Any:
    """A session, and the engines it made: what they ran, each."""
    engines = []

    def make(model: bytes, threads: int) -> Any:
        inner = OnnxEngine(model, threads)
        engines.append(Counting(inner.run))
        return engines[-1]

    return Session(bundle, engine=make, **settings), engines


def test_settings_run_nothing(staged_bundle: Bundle) -> None:
    session, engines = counting_session(with_point(staged_bundle, "whole", (0, 1, 2), (None, 1.0)))
    session.deadline_ms = 1000.0
    session.power = "low"
    session.point = "whole"
    session.deadline_ms = 1e-9
    session.deadline_ms = None
    session.point = None
    session.validate = False
    assert [engine.seen for engine in engines] == [[], [], []]


def test_a_new_deadline_is_tried_once_on_the_samples_given(staged_bundle: Bundle) -> None:
    session, engines = counting_session(staged_bundle)
    session.deadline_ms = 1000.0
    session(_samples(7))
    assert engines[0].seen == [1] * 5 + [7]
    session(_samples(7))
    assert engines[0].seen == [1] * 5 + [7, 7]


SETTINGS = {"point": ("default", "cheap", None), "deadline_ms": (1000.0, None),
            "power": ("low", "high", "balanced", "auto")}


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_one_never_changes_another(staged_bundle: Bundle, name: Any) -> None:
    session = Session(with_point(staged_bundle, "cheap", (0, 1, 2), (0.0, 0.0)))
    others = [other for other in SETTINGS if other != name]
    for values in itertools.product(*(SETTINGS[other] for other in others)):
        for other, value in zip(others, values, strict=True):
            setattr(session, other, value)
        for value in SETTINGS[name]:
            setattr(session, name, value)
            assert getattr(session, name) == value
            assert tuple(getattr(session, other) for other in others) == values


@pytest.mark.parametrize("order", itertools.permutations(["point", "deadline_ms", "power"]))
def test_the_point_wins_whatever_was_set_last(staged_bundle: Bundle, order: Any) -> None:
    session = Session(with_point(staged_bundle, "cheap", (0, 1, 2), (0.0, 0.0)))
    values = {"point": "default", "deadline_ms": 1000.0, "power": "low"}
    for name in order:
        setattr(session, name, values[name])
    assert session(_samples(3)).point == "default"
    session.point = None
    assert session(_samples(3)).point == "cheap"   # the power that was set is still in effect


def test_a_session_without_settings_runs_the_default_point(staged_bundle: Bundle) -> None:
    session = Session(with_point(staged_bundle, "cheap", (0, 1, 2), (0.0, 0.0)))
    assert (session.point, session.deadline_ms, session.power) == (None, None, "auto")
    assert {session(_samples(3)).point for _ in range(20)} == {"default"}


def test_the_power_takes_effect_when_no_point_is_set(staged_bundle: Bundle) -> None:
    session = Session(with_point(staged_bundle, "cheap", (0, 1, 2), (0.0, 0.0)))
    session.power = "low"
    assert session(_samples(3)).point == "cheap"
    session.point = "default"
    session.power = "auto"
    assert session(_samples(3)).point == "default"
    session.point = None
    session.power = "low"
    assert session(_samples(3)).point == "cheap"


def test_a_deadline_cuts_short_at_a_point_that_was_set(staged_bundle: Bundle) -> None:
    pending = iter([Counting(unsure), Counting(unsure), slow(0.05, sure)])
    session = Session(staged_bundle, engine=lambda model, threads: next(pending))
    session.point = "default"
    session.deadline_ms = 20.0
    session(_samples(1))
    again = session(_samples(1))
    assert (again.point, again.exit.tolist(), again.cut_short.tolist()) == ("default", [1], [True])


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "5", True, [5.0],
                                   np.array([5.0])])
def test_a_deadline_that_is_no_time_is_refused_and_changes_nothing(staged_bundle: Bundle,
                                                                   value: Any) -> None:
    session = Session(staged_bundle)
    with pytest.raises(UsageError, match="deadline_ms must be above 0"):
        session.deadline_ms = value
    assert (session.deadline_ms, session.point) == (None, None)


@pytest.mark.parametrize("name", ["deadline", "pont", "Power", "validat", "thread"])
def test_a_misspelt_setting_is_an_error(staged_bundle: Bundle, name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        setattr(Session(staged_bundle), name, 1)


def unsure(inputs: Any) -> tuple[Any, ...]:
    return np.tile(np.array([0.1, 0, 0], np.float32), (len(inputs[0]), 1)), inputs[0]


def sure(inputs: Any) -> tuple[Any, ...]:
    return (np.ones((len(inputs[0]), 3), np.float32),)


def slow(seconds: Any, outputs: Any) -> Any:
    def run(inputs: Any) -> Any:
        time.sleep(seconds)
        return outputs(inputs)
    return Counting(run)


def test_a_sample_whose_time_is_up_leaves_with_the_best_answer_so_far(staged_bundle: Bundle) -> None:
    pending = iter([Counting(unsure), Counting(unsure), slow(0.05, sure)])
    session = Session(staged_bundle, engine=lambda model, threads: next(pending))
    session.deadline_ms = 20.0
    first = session(_samples(1))  # how long the last segment takes is not known yet
    assert (first.exit.tolist(), first.cut_short.tolist()) == ([2], [False])
    second = session(_samples(1))
    assert (second.exit.tolist(), second.cut_short.tolist()) == ([1], [True])
    np.testing.assert_array_equal(second.output, np.array([[0.1, 0, 0]], np.float32))
    session.deadline_ms = None
    assert session(_samples(1)).exit.tolist() == [2]
    stats = session.stats()
    assert stats.latency is not None
    assert (stats.cut_short, stats.late, stats.latency.calls) == (1, 1, 3)


def test_an_empty_battery_asks_for_the_cheapest_point(staged_bundle: Bundle) -> None:
    charge = [1.0]
    battery = CallableSensor(lambda: charge[0], "charge", "battery")
    bundle = with_point(staged_bundle, "cheap", (0, 1, 2), (0.0, 0.0))
    session = Session(bundle, sensors=[battery])
    assert session.point is None
    assert session(_samples(9)).point == "default"
    charge[0] = 0.05
    deadline = time.monotonic() + 5
    while session(_samples(9)).point != "cheap" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session(_samples(9)).point == "cheap"
    session.power = "high"
    assert session(_samples(9)).point == "default"
    with pytest.raises(UsageError, match="'auto', 'high', 'balanced', 'low'"):
        session.power = "full"  # type: ignore[assignment]


def test_drift_is_said_when_other_samples_come(staged_bundle: Bundle) -> None:
    session = Session(staged_bundle)
    assert session.drift() is None
    seen = session(_samples(4000, seed=3))
    profile = ExitProfile(
        split="val", samples=4000, shares=tuple(np.bincount(seen.exit, minlength=3) / 4000),
        deciles=tuple(np.quantile(confidence(session.run_all_exits(_samples(4000, 3))[0].outputs[0]),
                                  np.arange(1, 10) / 10)))
    default = staged_bundle.manifest.model.points[0].replace(calibrated=profile)
    session = Session(replace(staged_bundle, manifest=staged_bundle.manifest.with_model(points=(default,))))
    for seed in range(10, 14):
        session(_samples(500, seed))
    drift = session.drift()
    assert drift is not None
    assert not drift.drifted
    for seed in range(20, 24):
        session(0.1 * _samples(500, seed))
    drift = session.drift()
    assert drift is not None
    assert drift.drifted
    assert "guarantee no longer applies" in drift.summary


def with_point(bundle: Any, name: str, path: tuple[int, ...], thresholds: Any) -> Any:
    """The bundle with one operating point more, which costs less."""
    rules = tuple(ExitRule(threshold=threshold) for threshold in thresholds)
    macs = Measurement(name="macs", value=50, kind="modelled")
    default = bundle.manifest.model.points[0].replace(figures=Figures.of(macs.replace(value=5000)))
    point = OperatingPoint(name=name, path=path, rules=rules, figures=Figures.of(macs))
    return replace(bundle, manifest=bundle.manifest.with_model(points=(default, point)))
