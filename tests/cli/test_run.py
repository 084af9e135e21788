"""``edgewright run``: what it prints for each kind of answer, and drawings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper
from PIL import Image

from edgewright.bundle import write_bundle
from edgewright.cli import main
from edgewright.cli._results import describe_results
from edgewright.core import (
    Boxes,
    ClassMask,
    DecodeStep,
    Manifest,
    Numbers,
    Preprocessing,
    Segment,
    TensorSpec,
)
from edgewright.runtime import AnswerSet, ClassRanking, Detections, Mask, Quantity, Vector

RECIPE = Preprocessing(channels=3, height=4, width=8, mean=(0.0,) * 3, std=(1.0,) * 3,
                      resample="nearest")
PIXELS = np.zeros((4, 8, 3), dtype=np.uint8)
PIXELS[:, 4:, 1] = 255
DETECTOR = """s (float[N, 3, 4, 8] x) => (float[N, 1, 4] boxes, float[N, 1, 1] scores) {
              zero = Sub(x, x)  none = ReduceSum<keepdims=0>(zero, axes)
              flat = Reshape(none, shape)  boxes = Add(flat, half)  scores = Add(flat, sure) }"""
WEIGHTS = {"axes": np.array([1, 2, 3]), "shape": np.array([-1, 1, 1]),
           "half": np.array([[[0, 0, 4, 4]]], dtype=np.float32),
           "sure": np.array([[[3]]], dtype=np.float32)}
SEGMENTER = "s (float[N, 3, 4, 8] x) => (float[N, 3, 4, 8] y) { y = Identity(x) }"

Run = Callable[..., tuple[int, str, str]]
Make = Callable[..., Path]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``edgewright run``: exit code, stdout, stderr in one line."""
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgewright", "run", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, " ".join(err.split())

    return call


@pytest.fixture
def make(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> Make:
    """Writes a bundle of one ONNX graph on pictures, and the picture."""
    def write(graph: str, outputs: dict[str, tuple[int, ...]], *steps: DecodeStep,
              weights: dict[str, np.ndarray] | None = None, **fields: Any) -> Path:
        model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]>' + graph)
        model.graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in (weights or {}).items())
        segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=1, energy_mj=0.1,
                          ram_bytes=8)
        manifest = manifest_of(
            inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 3, 4, 8)),),
            outputs=tuple(TensorSpec(name=name, dtype="float32", shape=(None, *sizes))
                          for name, sizes in outputs.items()),
            segments=(segment,), decoding=steps, preprocessing=RECIPE, **fields)
        write_bundle(tmp_path / "m.edge", manifest, {segment.file: model.SerializeToString()})
        Image.fromarray(PIXELS).resize((80, 40), Image.Resampling.NEAREST).save(tmp_path / "x.png")
        np.save(tmp_path / "x.npy", np.zeros((2, 3, 4, 8), dtype=np.float32))
        return tmp_path / "m.edge"

    return write


def test_boxes_are_a_table_and_a_drawing(make: Make, run: Run, tmp_path: Path) -> None:
    bundle = make(DETECTOR, {"boxes": (1, 4), "scores": (1, 1)}, Boxes(), weights=WEIGHTS,
                  classes=("cell",), goal="detection")
    code, out, err = run(bundle, "--input", tmp_path / "x.png", "--draw", tmp_path / "d.png")
    assert code == 0, err
    head, row, exit_line, drawing = out.splitlines()
    assert head.split() == ["score", "label", "left", "top", "right", "bottom"]
    assert row.split() == ["95.26", "%", "cell", "0.0", "0.0", "40.0", "40.0"]
    assert exit_line.startswith("exit 1 of 1, ")
    assert drawing == f"drawing: {tmp_path / 'd.png'}"
    with Image.open(tmp_path / "d.png") as drawn:
        assert drawn.size == (80, 40)
        assert drawn.getpixel((0, 30)) != (0, 0, 0)
        assert drawn.getpixel((60, 20)) == (0, 255, 0)


def test_a_mask_is_shares_of_pixels_and_a_drawing(make: Make, run: Run, tmp_path: Path) -> None:
    bundle = make(SEGMENTER, {"y": (3, 4, 8)}, ClassMask(output="y"),
                  classes=("sky", "tree", "road"))
    code, out, err = run(bundle, "--input", tmp_path / "x.png", "--draw", tmp_path / "d.png")
    assert code == 0, err
    assert out.splitlines()[:2] == [" 50.00 %  sky", " 50.00 %  tree"]
    with Image.open(tmp_path / "d.png") as drawn:
        assert drawn.getpixel((10, 20)) == (0, 0, 0)
        assert drawn.getpixel((60, 20)) != (0, 255, 0)


def test_a_drawing_needs_a_picture(make: Make, run: Run, tmp_path: Path) -> None:
    bundle = make(SEGMENTER, {"y": (3, 4, 8)}, ClassMask(output="y"))
    code, _, err = run(bundle, "--input", tmp_path / "x.npy", "--draw", tmp_path / "d.png")
    assert code == 2
    assert f"--draw needs a picture, but {tmp_path / 'x.npy'} holds arrays" in err
    assert not (tmp_path / "d.png").exists()


def test_a_drawing_needs_boxes_or_a_mask(make: Make, run: Run, tmp_path: Path) -> None:
    bundle = make(SEGMENTER, {"y": (3, 4, 8)}, Numbers(output="y"), goal="regression")
    code, _, err = run(bundle, "--input", tmp_path / "x.png", "--draw", tmp_path / "d.png")
    assert code == 2
    assert "m.edge has neither (its goal is regression); leave it out" in err


@pytest.mark.parametrize("name", ["no/such/d.png", "d.unknown"])
def test_a_drawing_that_cannot_be_written(make: Make, run: Run, tmp_path: Path, name: str) -> None:
    bundle = make(SEGMENTER, {"y": (3, 4, 8)}, ClassMask(output="y"))
    code, _, err = run(bundle, "--input", tmp_path / "x.png", "--draw", tmp_path / name)
    assert code == 5
    assert f"{tmp_path / name} cannot be written: " in err


def test_without_a_step_shapes_are_printed(make: Make, run: Run, tmp_path: Path) -> None:
    code, out, _ = run(make(SEGMENTER, {"y": (3, 4, 8)}), "--input", tmp_path / "x.npy")
    assert code == 0
    assert out.splitlines()[0] == "shape (2, 3, 4, 8), mean 0"


def test_a_step_that_does_not_fit_is_one_line(make: Make, run: Run, tmp_path: Path) -> None:
    bundle = make(SEGMENTER, {"y": (3, 4, 8)}, ClassMask(output="z"))
    code, _, err = run(bundle, "--input", tmp_path / "x.png")
    assert code == 5
    assert "m.edge: the step 'class_mask' decodes the output 'z', but the model returns 'y'" in err


def none() -> Detections:
    return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


RANKING = ClassRanking(np.array([0.25, 0.75]), ("cat", "dog"))
LARGE = np.linspace(0, 1, 12).reshape(3, 4)


@pytest.mark.parametrize(("results", "lines"), [
    ([RANKING, RANKING], [" 75.00 %  dog", " 75.00 %  dog"]),
    ([AnswerSet(np.array([0.97, 0.02]), np.array([True, False]), ("sun", "rain"))],
     [" 97.00 %  sun: yes", "  2.00 %  rain: no"]),
    ([AnswerSet(np.array(0.97), np.array(True))], [" 97.00 %  yes"]),
    ([AnswerSet(LARGE, LARGE > 0.5)], [" 50.00 %  of the pixels: yes"]),
    ([AnswerSet(LARGE[:2], LARGE[:2] > 0.5, ("a", "b"))],
     ["  0.00 %  of the pixels: a", " 50.00 %  of the pixels: b"]),
    ([none()], ["no boxes"]),
    ([Mask(np.zeros((2, 2), np.int64), 2)], ["100.00 %  class 0"]),
    ([Vector(np.array([0.6, 0.8], dtype=np.float32))], ["vector of 2: 0.6, 0.8"]),
    ([Vector(np.zeros(9, dtype=np.float32))], ["vector of 9: 0, 0, 0, 0, 0, 0, 0, 0, ..."]),
    ([Quantity(np.array([34.25]), "years")], ["34.25 years"]),
    ([Quantity(np.array(34.25)), Quantity(np.array([1, 2]))],
     ["sample 0: 34.25", "sample 1: 1, 2"]),
    ([Quantity(LARGE, "m")], ["12 values of shape (3, 4), from 0 to 1, mean 0.5 m"]),
    ([{"age": Quantity(np.array([34.0]), "years"), "sex": RANKING}],
     ["age: 34 years", "sex:  75.00 %  dog"]),
    ([{"a": none(), "b": none()}] * 2,
     ["sample 0: a: no boxes", "sample 0: b: no boxes", "sample 1: a: no boxes",
      "sample 1: b: no boxes"]),
])
def test_each_kind_of_result_has_its_lines(results: list[Any], lines: list[str]) -> None:
    assert list(describe_results(results, top=1)) == lines
