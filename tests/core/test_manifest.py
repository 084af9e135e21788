"""The manifest: nothing is lost on the way through JSON, and another format is refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from edgewright.core import (
    FORMAT_VERSION,
    Breach,
    Budget,
    ExitProfile,
    ExitRule,
    Figures,
    Guarantee,
    LayerRecord,
    LowBitTensor,
    Manifest,
    Measurement,
    OperatingPoint,
    Parity,
    Preprocessing,
    Segment,
    StageRecord,
    TensorSpec,
)

FIGURES = Figures.of(Measurement(name="accuracy", value=0.9173, kind="measured", split="test"),
                     Measurement(name="size_bytes", value=98496, kind="measured"))


POINT = OperatingPoint(
    name="default", path=(0, 1, 2), policy="gate",
    rules=(ExitRule(threshold=0.875, temperature=1.5, gate=(0.1, 2.0, 3.0, 4.0)),
           ExitRule(threshold=2.0, gate=(0.0, 1.0, 1.0, 1.0))), figures=FIGURES,
    calibrated=ExitProfile(split="val", samples=9, shares=(0.25, 0.5, 0.25), deciles=(0.5,)),
    guarantee=Guarantee(epsilon=0.01, delta=0.05, samples=9, split="val", p_value=0.01))


def segment(index):
    return Segment(file=f"segments/{index}.onnx", sha256="ab" * 32, size_bytes=10, macs=1000,
                   energy_mj=0.1 + 0.2, ram_bytes=64, stored_bytes=7,
                   low_bit=(LowBitTensor(offset=2, count=5, bits=1, low=-1, step=2),))


@pytest.fixture
def manifest(manifest_of):
    """With every field set to what is not its default."""
    return manifest_of(
        model="resnet", data="cifar10", recipe={"prune": {"ratio": 0.5}, "exits": None}, seed=3,
        budget=Budget(size="25 %", max_drop="0.5 %"), versions={"torch": "2.13.0"},
        machine="a box, 2 cores",
        inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 3, 32, 32)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 10)),),
        classes=("cat", "dög"),
        preprocessing=Preprocessing(channels=3, height=32, width=32, mean=(0.4, 0.5, 0.6),
                                    std=(0.2, 0.25, 0.3), resample="bicubic"),
        segments=(segment(0), segment(1), segment(2)), points=(POINT,),
        original=FIGURES, compressed=FIGURES, simulated=Figures(),
        parity=Parity(split="test", samples=9, relative_error=1e-3, top1_agreement=0.999),
        stages=(StageRecord(name="prune", seconds=1.5, figures=FIGURES, notes=("half",)),),
        layers=(LayerRecord(name="conv", op="conv2d", channels_before=16, channels=8,
                            macs_before=100, macs=50, weight_bits=4, activation_bits=8,
                            compute_bits=8),),
        uncounted=("fft x 1",),
        breaches=(Breach(constraint="size", figure="size_bytes", value=None, limit=5.0),))


def test_a_full_manifest_survives_json(manifest):
    again = Manifest.model_validate_json(manifest.model_dump_json())
    assert again == manifest
    assert again.inputs[0].shape == (None, 3, 32, 32)
    assert again.breaches[0].value is None
    assert again.model_dump_json() == manifest.model_dump_json()


def test_the_default_point_is_the_first_or_all_segments(manifest):
    assert manifest.point.thresholds == (0.875, 2.0)
    alone = manifest.replace(points=(), segments=(segment(0),))
    assert (alone.point.path, alone.point.rules) == ((0,), ())


@pytest.mark.parametrize(("points", "message"), [
    ((POINT, POINT), r"operating points of one name: \['default', 'default'\]"),
    ((POINT.replace(path=(0, 1, 3)),), r"runs the segments \(0, 1, 3\), and there "
                                                      "are 3: one is missing"),
])
def test_points_that_do_not_fit_are_refused(manifest, points, message):
    content = json.loads(manifest.model_dump_json())
    content["points"] = [json.loads(point.model_dump_json()) for point in points]
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate_json(json.dumps(content))


@pytest.mark.parametrize(("change", "message"), [
    ({"rules": []}, "0 rules for a path of 3 segments"),
    ({"path": []}, "at least 1"),
    ({"rules": [{"threshold": 0.5}] * 2}, "needs 4 weights at every exit"),
    ({"policy": "luck"}, "'confidence', 'margin', 'entropy', 'patience' or 'gate'"),
])
def test_a_point_that_cannot_be_walked_is_refused(change, message):
    content = json.loads(POINT.model_dump_json()) | change
    with pytest.raises(ValidationError, match=message):
        OperatingPoint.model_validate_json(json.dumps(content))


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, FORMAT_VERSION - 1, 0, "1.0", None])
def test_another_format_is_refused(manifest, version):
    content = json.loads(manifest.model_dump_json()) | {"format_version": version}
    with pytest.raises(ValidationError, match="format_version"):
        Manifest.model_validate_json(json.dumps(content))


@pytest.mark.parametrize("change", [{"extra": 1}, {"seed": "three"}, {"segments": [{"file": "a"}]}])
def test_a_field_that_is_unknown_or_wrong_is_refused(manifest, change):
    content = json.loads(manifest.model_dump_json()) | change
    with pytest.raises(ValidationError, match=next(iter(change))):
        Manifest.model_validate_json(json.dumps(content))


def test_a_manifest_is_frozen(manifest):
    with pytest.raises(ValidationError, match="frozen"):
        manifest.seed = 4


@pytest.mark.parametrize(("bits", "count", "bytes_"), [
    (4, 5, 3), (3, 4, 2), (2, 5, 2), (1, 8, 1), (1, 9, 2),
])
def test_packed_integers_take_whole_bytes(bits, count, bytes_):
    assert LowBitTensor(offset=0, count=count, bits=bits, low=0).packed_bytes == bytes_


@pytest.mark.parametrize("change", [{"bits": 0}, {"bits": 5}, {"count": 0}, {"offset": -1},
                                    {"low": -129}, {"low": 128}, {"step": 0}, {"step": 256}])
def test_a_low_bit_tensor_that_cannot_be_is_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        LowBitTensor(**{"offset": 0, "count": 8, "bits": 4, "low": -8, **change})
