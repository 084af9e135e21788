"""NaN and infinity: refused where they come in and where a network makes them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgewright as ew
from edgewright.bundle import Bundle, write_bundle
from edgewright.core import ExitPolicy, ExitRule, OperatingPoint
from edgewright.errors import DataError
from edgewright.runtime import Session, Streaks, exit_scores
from edgewright.runtime.early_exit._policies import score_single_sample

from .conftest import CLASSES, parse, spec

BAD = [np.nan, np.inf, -np.inf]


def samples(count: int = 5) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(count, 4)).astype(np.float32)


def spoilt(value: float, count: int = 5) -> np.ndarray:
    array = samples(count)
    array[count - 1, 2] = value
    return array


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("value", BAD)
def test_a_value_that_is_not_finite_is_refused_by_name_and_index(staged_bundle: Bundle, value: Any,
                                                                 count: int) -> None:
    session = Session(staged_bundle)
    for call in (session, session.run_all_exits):
        with pytest.raises(DataError, match=rf"input 'x' contains NaN or infinite values: {value} at "
                                            rf"index \({count - 1}, 2\) is the first of 1; "):
            call(spoilt(value, count))
    assert session.stats().samples == 0


def test_the_first_of_several_is_named(staged_bundle: Bundle) -> None:
    array = samples()
    array[[1, 3], [3, 0]] = np.inf, np.nan
    with pytest.raises(DataError, match=r"inf at index \(1, 3\) is the first of 2"):
        Session(staged_bundle)(array)


@pytest.mark.parametrize("lay_out", [
    np.asfortranarray, lambda a: np.concatenate([a, a])[:len(a)], lambda a: a[::-1][::-1],
    lambda a: np.repeat(a, 3, axis=1)[:, ::3], np.ma.masked_invalid, lambda a: a.view(np.matrix),
    lambda a: np.broadcast_to(a[-1:], a.shape), lambda a: np.frombuffer(a.tobytes(), "f4").reshape(
        a.shape)],
    ids=["fortran", "slice", "reversed", "strided", "masked", "matrix", "broadcast", "read-only"])
def test_no_layout_hides_a_value(staged_bundle: Bundle, lay_out: Any) -> None:
    session = Session(staged_bundle)
    with pytest.raises(DataError, match="nan at index"):
        session(lay_out(spoilt(np.nan)))
    assert len(session(lay_out(samples())).output) == 5


def test_every_input_is_looked_at_and_integers_need_not_be(whole_bundle: Bundle) -> None:
    session = Session(whole_bundle)
    whole = np.ones((2, 1), np.int64)
    session(np.ones((2, 4), np.float32), whole)
    with pytest.raises(DataError, match="input 'a' contains NaN"):
        session(np.full((2, 4), np.nan, np.float32), whole)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_floating_type(make_bundle: Callable[..., Bundle], dtype: str) -> None:
    kind = {"float16": "float16", "float32": "float", "float64": "double"}[dtype]
    model = parse(f"g ({kind}[N, 4] x, {kind}[N, 4] z) => ({kind}[N, 4] y) {{ y = Add(x, z) }}")
    bundle = make_bundle([model], (spec("x", None, 4, dtype=dtype), spec("z", None, 4, dtype=dtype)),
                         (spec("y", None, 4, dtype=dtype),))
    session = Session(bundle)
    good = samples().astype(dtype)
    session(good, good)
    for value in BAD:
        with pytest.raises(DataError, match=rf"input 'z' .*: {value} at index \(4, 2\)"):
            session(good, spoilt(value).astype(dtype))


@pytest.mark.parametrize("extreme", ["max", "min", "tiny", "smallest_subnormal"])
def test_what_is_finite_passes_however_large(staged_bundle: Bundle, extreme: str) -> None:
    array = np.zeros((3, 4), np.float32)
    array[:, 0] = getattr(np.finfo(np.float32), extreme)
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        ew.runtime._finite.check_finite(staged_bundle.manifest.model.inputs, (array,))


def test_no_price_for_those_who_do_not_want_it(staged_bundle: Bundle) -> None:
    session = ew.load(staged_bundle.path, validate=False)
    assert session.validate is False
    assert len(session(spoilt(np.nan)).output) == 5
    session.validate = True
    with pytest.raises(DataError, match="nan at index"):
        session(spoilt(np.nan))
    assert session.stats().calls == 1
    assert ew.load(staged_bundle.path).validate


# What a network makes of finite inputs.

def diverging(make_bundle: Any, body: str, **weights: np.ndarray) -> Any:
    last = parse(f"g (float[N, 4] x) => (float[N, {CLASSES}] y) {{ {body} }}", **weights)
    return make_bundle([last], (spec("x", None, 4),), (spec("y", None, CLASSES),))


@pytest.mark.parametrize(("body", "bad"), [
    ("h = MatMul(x, w)  y = Log(h)", 1), ("h = MatMul(x, w)  y = Sqrt(h)", 1),
    ("h = MatMul(x, w)  e = Mul(h, h)  y = Div(e, h)", 1)])
def test_what_is_not_finite_though_the_inputs_are_is_said(make_bundle: Callable[..., Bundle],
                                                          body: str, bad: int) -> None:
    session = Session(diverging(make_bundle, body, w=np.ones((4, CLASSES), np.float32)))
    array = np.ones((3, 4), np.float32)
    session(array)
    array[1] = 0 if "Div" in body else -1
    for call in (session, session.run_all_exits):
        with pytest.raises(DataError, match=r"segments/0.onnx returned NaN or infinite values "
                                            rf"in output 'y' for {bad} of 3 sam"):
            call(array)
    assert session.stats().calls == 1
    session.validate = False
    assert np.isnan(session(array).output[1]).all()


def test_overflow_is_said(make_bundle: Callable[..., Bundle]) -> None:
    session = Session(diverging(make_bundle, "y = MatMul(x, w)",
                                w=np.full((4, CLASSES), 10, np.float32)))
    with pytest.raises(DataError, match="output 'y' for 1 of 1 samples"):
        session(np.full((1, 4), 3e38, np.float32))


def test_a_class_that_cannot_be_is_no_fault(make_bundle: Callable[..., Bundle]) -> None:
    """Minus infinity is how a model says so."""
    cannot = np.array([0, 0, -np.inf], np.float32)
    session = Session(diverging(make_bundle, "h = MatMul(x, w)  y = Add(h, b)",
                                w=np.ones((4, CLASSES), np.float32), b=cannot))
    assert session(np.ones((2, 4), np.float32)).output.tolist() == [[4, 4, -np.inf]] * 2


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_every_exit_is_looked_at(staged_bundle: Bundle, value: Any, count: int) -> None:
    class Spoiling:
        runtime = "spoiling 1.0"

        def run(self, inputs: Any) -> tuple[Any, ...]:
            logits = np.zeros((len(inputs[0]), 3), np.float32)
            logits[0, 1] = value
            return logits, np.zeros((len(inputs[0]), 6), np.float32)

    session = Session(staged_bundle, engine=lambda model, threads: Spoiling())
    for deadline in (None, 1e6):
        session.deadline_ms = deadline
        with pytest.raises(DataError, match=rf"segments/0.onnx returned .* in output 'logits' for 1 "
                                            rf"of {count} samples"):
            session(samples(count))


POLICIES: list[ExitPolicy] = ["confidence", "margin", "entropy", "patience", "gate"]
ROWS = {
    "nan": [np.nan, 0.0, 1.0], "nan last": [1.0, 9.0, np.nan], "inf": [np.inf, 0.0, 1.0],
    "two inf": [np.inf, np.inf, 1.0], "all -inf": [-np.inf] * 3, "all nan": [np.nan] * 3,
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_is_sure_of_what_is_no_number(policy: ExitPolicy, row: Any) -> None:
    rule = ExitRule(threshold=0.0, temperature=0.7, gate=(50.0, 1.0, 1.0, 1.0))
    logits = np.array([ROWS[row]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = exit_scores(policy, rule, logits, Streaks.begin(logits))
    assert not (scores >= -1e9).any()
    assert not score_single_sample(policy, rule, ROWS[row], 5) >= -1e9


@pytest.mark.parametrize("policy", POLICIES)
def test_a_class_that_cannot_be_changes_no_score(policy: ExitPolicy) -> None:
    """The score of a batch, of a sample, and without that class but for entropy's scale."""
    rule = ExitRule(threshold=0.0, temperature=0.7, gate=(0.1, 0.2, 0.3, 0.4))
    logits = np.array([[2.0, -np.inf, 0.5]], np.float32)
    score = exit_scores(policy, rule, logits, Streaks.begin(logits))[0]
    near = np.array([[2.0, -1e4, 0.5]], np.float32)
    assert score == pytest.approx(exit_scores(policy, rule, near, Streaks.begin(near))[0], abs=1e-12)
    assert score == pytest.approx(score_single_sample(policy, rule, logits[0].tolist(), 1), abs=1e-12)


@pytest.mark.parametrize("policy", ["confidence", "margin", "entropy"])
def test_unvalidated_nan_neither_leaves_early_nor_poisons_its_neighbours(make_bundle: Callable[..., Bundle], staged_bundle: Bundle,
                                                                         policy: str) -> None:
    point = OperatingPoint(name="default", path=(0, 1, 2), policy=policy,
                           rules=(ExitRule(threshold=0.0), ExitRule(threshold=0.0)))
    manifest = staged_bundle.manifest.with_model(points=(point,))
    write_bundle(staged_bundle.path, manifest, staged_bundle.segments)
    session = ew.load(staged_bundle.path, validate=False)
    found = session(spoilt(np.nan))
    assert found.exit.tolist() == [0, 0, 0, 0, 2]
    np.testing.assert_array_equal(found.output[:4], session(samples()[:4]).output)


def test_the_command_line_names_the_file(staged_bundle: Bundle, tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", spoilt(np.nan, 1))
    done = subprocess.run([sys.executable, "-c", "from edgewright.cli import main; main()", "run",
                           str(staged_bundle.path), "--input", str(tmp_path / "bad.npy")],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "bad.npy: input 'x' contains NaN or infinite values: nan at index (0, 2)" in done.stderr
