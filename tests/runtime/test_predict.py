"""`Session.predict`, `read` and `decode`: pictures, files and arrays in, decoded results out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgewright.bundle import Bundle
from edgewright.core import Boxes, ClassMask, ClassProbabilities, Numbers, Preprocessing
from edgewright.errors import BundleError, DataError, UsageError
from edgewright.runtime import ClassRanking, Session

from .conftest import CLASSES, IN, parse, spec

Make = Callable[..., Bundle]
RECIPE = Preprocessing(channels=3, height=4, width=8, mean=(0.0,) * 3, std=(1.0,) * 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
NAMES = ("red", "green", "blue")


@pytest.fixture
def classifier(make_bundle: Make) -> Bundle:
    """Its logits are the mean of each channel, times 100."""
    model = parse("""s (float[N, 3, 4, 8] x) => (float[N, 3] y) {
                     mean = ReduceMean<axes=[2, 3], keepdims=0>(x)  y = Mul(mean, factor) }""",
                  factor=np.array(100, dtype=np.float32))
    return make_bundle([model], (spec("x", None, 3, 4, 8),), (spec("y", None, 3),), classes=NAMES,
                       preprocessing=RECIPE, decoding=(ClassProbabilities(output="y"),))


@pytest.fixture
def detector(make_bundle: Make) -> Bundle:
    """Finds the same box in every picture: the left half."""
    model = parse("""s (float[N, 3, 4, 8] x) => (float[N, 1, 4] boxes, float[N, 1, 1] scores) {
                     zero = Sub(x, x)  none = ReduceSum<keepdims=0>(zero, axes)
                     flat = Reshape(none, shape)  boxes = Add(flat, half)
                     scores = Add(flat, sure) }""",
                  axes=np.array([1, 2, 3]), shape=np.array([-1, 1, 1]),
                  half=np.array([[[0, 0, 4, 4]]], dtype=np.float32),
                  sure=np.array([[[3]]], dtype=np.float32))
    return make_bundle([model], (spec("x", None, 3, 4, 8),),
                       (spec("boxes", None, 1, 4), spec("scores", None, 1, 1)), classes=("left",),
                       preprocessing=RECIPE, decoding=(Boxes(),))


def pictures(folder: Path) -> list[Any]:
    Image.fromarray(PIXELS).save(folder / "a.png")
    return [folder / "a.png", str(folder / "a.png"), Image.fromarray(PIXELS), PIXELS]


def test_a_picture_in_any_form_gives_one_result(classifier: Bundle, tmp_path: Path) -> None:
    session = Session(classifier)
    expected = PIXELS.mean(axis=(0, 1)) / 255 * 100
    for picture in pictures(tmp_path):
        found = session.predict(picture)
        assert isinstance(found, ClassRanking)
        assert found.label == NAMES[int(expected.argmax())]
        assert [one.label for one in found.top(5)] == [NAMES[i] for i in np.argsort(-expected)]
        np.testing.assert_allclose(np.log(found.probabilities) - np.log(found.probabilities)[0],
                                   expected - expected[0], rtol=1e-3)


def test_arrays_go_in_as_they_are_and_give_a_result_per_sample(classifier: Bundle) -> None:
    session = Session(classifier)
    x = np.random.default_rng(1).normal(size=(5, 3, 4, 8)).astype(np.float32)
    found = session.predict(x)
    raw = session(x)
    assert [one.label for one in found] == [NAMES[i] for i in raw.output.argmax(axis=1)]
    again = session.decode(raw)
    assert [one.top(3) for one in again] == [one.top(3) for one in found]


def test_a_file_of_arrays_gives_a_result_per_sample(classifier: Bundle, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4, 8), dtype=np.float32))
    assert len(Session(classifier).predict(tmp_path / "x.npy")) == 2


def test_read_returns_the_inputs_of_a_call(classifier: Bundle, tmp_path: Path) -> None:
    session = Session(classifier)
    for picture in pictures(tmp_path):
        (found,) = session.read(picture)
        np.testing.assert_allclose(found[0], PIXELS.transpose(2, 0, 1) / 255, atol=1e-6)
        assert session(found).output.shape == (1, 3)


def test_pixels_of_the_right_size_need_no_pillow(classifier: Bundle,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Session(classifier).predict(PIXELS).top(1)
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert Session(classifier).predict(PIXELS).top(1) == expected


@pytest.mark.parametrize("pixels", [PIXELS[:, :, 0], PIXELS[:, :, :1], PIXELS[:2, :6]],
                         ids=["grey", "one channel", "smaller"])
def test_pixels_of_another_size_or_mode_are_converted(classifier: Bundle,
                                                      pixels: np.ndarray) -> None:
    (found,) = Session(classifier).read(pixels)
    assert found.shape == (1, 3, 4, 8)


def test_boxes_are_in_pixels_of_what_was_given(detector: Bundle, tmp_path: Path) -> None:
    session = Session(detector)
    (found,) = session.predict(Image.fromarray(PIXELS).resize((80, 20)))
    assert found.box == (0, 0, 40, 20)
    assert found.label == "left"
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(PIXELS).resize((20, 80)).save(tmp_path / "turned.png", exif=exif)
    (found,) = session.predict(tmp_path / "turned.png")
    assert found.box == (0, 0, 40, 20)
    ((found,),) = session.predict(np.zeros((1, 3, 4, 8), dtype=np.float32))
    assert found.box == (0, 0, 4, 4)


def test_several_predictions_are_named(make_bundle: Make) -> None:
    model = parse("""s (float[N, 2] x) => (float[N, 2] a, float[N, 2] b) {
                     a = Relu(x)  b = Neg(x) }""")
    session = Session(make_bundle(
        [model], (spec("x", None, 2),), (spec("a", None, 2), spec("b", None, 2)),
        decoding=(ClassProbabilities(output="b"), Numbers(output="a", unit="m"))))
    (found,) = session.predict(np.array([[3, -4]], dtype=np.float32))
    assert found["b"].label == "class 1"
    assert found["a"].values.tolist() == [3, 0]
    assert found["a"].unit == "m"


def test_samples_that_leave_early_are_decoded_too(staged_bundle: Bundle) -> None:
    manifest = staged_bundle.manifest.with_model(decoding=(ClassProbabilities(output="y"),))
    session = Session(Bundle(staged_bundle.path, manifest, staged_bundle.segments))
    x = np.random.default_rng(2).normal(size=(50, IN)).astype(np.float32)
    prediction = session(x)
    assert len(set(prediction.exit.tolist())) > 1
    assert [one.top(1)[0].index for one in session.predict(x)] == prediction.output.argmax(
        axis=1).tolist()
    assert len(session.decode(prediction)[0].top(9)) == CLASSES


def test_uint8_inputs_of_a_model_without_preprocessing_are_arrays(make_bundle: Make) -> None:
    model = parse("s (uint8[N, 3] x) => (uint8[N, 3] y) { y = Identity(x) }")
    session = Session(make_bundle([model], (spec("x", None, 3, dtype="uint8"),),
                                  (spec("y", None, 3, dtype="uint8"),),
                                  decoding=(Numbers(output="y"),)))
    found = session.predict(np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8))
    assert [one.values.tolist() for one in found] == [[1, 2, 3], [4, 5, 6]]


def test_a_step_that_does_not_fit_is_refused_when_the_session_is_made(make_bundle: Make) -> None:
    model = parse("s (float[N, 3] x) => (float[N, 3] y) { y = Identity(x) }")
    for step in (ClassMask(output="y"), ClassProbabilities(output="z")):
        bundle = make_bundle([model], (spec("x", None, 3),), (spec("y", None, 3),),
                             decoding=(step,))
        with pytest.raises(BundleError, match=r"model\.edge: the step 'class_.*compress it again"):
            Session(bundle)


def test_without_steps_only_the_raw_outputs(whole_bundle: Bundle) -> None:
    session = Session(whole_bundle)
    inputs = (np.zeros((1, IN), np.float32), np.zeros((1, 1), np.int64))
    assert session(*inputs).output.shape == (1, CLASSES)
    with pytest.raises(UsageError, match="does not say how its outputs are decoded"):
        session.predict(*inputs)


@pytest.mark.parametrize(("inputs", "message"), [
    (("none.png",), r"none\.png cannot be read as an image: No such file"),
    (("none.npy",), r"none\.npy cannot be read: No such file"),
    ((np.zeros((1, 3, 4, 8)),), "input 'x' is float64, expected float32"),
    (([[1.0]],), "input 'x' is a list, expected a numpy array"),
    ((Image.new("I;16", (4, 4)),), r"the picture cannot be read as an image: its mode is I;16"),
    ((), "the model takes 1 inputs"), ((PIXELS, PIXELS), "the model takes 1 inputs"),
    ((PIXELS[None],), "input 'x' is uint8, expected float32"),
])
def test_what_cannot_be_predicted_is_refused(classifier: Bundle, inputs: tuple[Any, ...],
                                             message: str) -> None:
    with pytest.raises(DataError, match=message):
        Session(classifier).predict(*inputs)


def test_a_picture_for_a_bundle_without_preprocessing(whole_bundle: Bundle) -> None:
    for picture in (Image.fromarray(PIXELS), PIXELS, "a.png"):
        with pytest.raises(DataError, match="this bundle has no image preprocessing"):
            Session(whole_bundle).read(picture)
    with pytest.raises(DataError, match="a list is no picture; expected a file"):
        Session(whole_bundle).read([1])  # type: ignore[arg-type]
