"""The manifest: nothing is lost on the way through JSON, and another format is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

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
    OutputParity,
    Parity,
    Preprocessing,
    Segment,
    StageRecord,
    TensorSpec,
)
from edgewright.errors import UsageError

FIGURES = Figures.of(Measurement(name="accuracy", value=0.9173, kind="measured", split="test"),
                     Measurement(name="size_bytes", value=98496, kind="measured"))


POINT = OperatingPoint(
    name="default", path=(0, 1, 2), policy="gate",
    rules=(ExitRule(threshold=0.875, temperature=1.5, gate=(0.1, 2.0, 3.0, 4.0)),
           ExitRule(threshold=None, gate=(0.0, 1.0, 1.0, 1.0))), figures=FIGURES,
    calibrated=ExitProfile(split="val", samples=9, shares=(0.25, 0.5, 0.25), deciles=(0.5,)),
    guarantee=Guarantee(epsilon=0.01, delta=0.05, samples=9, split="val", p_value=0.01))


def segment(index: Any) -> Any:
    return Segment(file=f"segments/{index}.onnx", sha256="ab" * 32, size_bytes=10, macs=1000,
                   energy_mj=0.1 + 0.2, ram_bytes=64, stored_bytes=7,
                   low_bit=(LowBitTensor(offset=2, count=5, bits=1, low=-1, step=2),))


@pytest.fixture
def manifest(manifest_of: Callable[..., Manifest]) -> Any:
    """With every field set to what is not its default."""
    return manifest_of(
        name="resnet", data="cifar10", recipe={"prune": {"ratio": 0.5}, "exits": None}, seed=3,
        budget=Budget(size="25 %", max_drop="0.5 %"), versions={"torch": "2.13.0"},
        machine="a box, 2 cores",
        inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 3, 32, 32)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 10)),),
        classes=("cat", "dög"),
        preprocessing=Preprocessing(channels=3, height=32, width=32, mean=(0.4, 0.5, 0.6),
                                    std=(0.2, 0.25, 0.3), resample="bicubic"),
        segments=(segment(0), segment(1), segment(2)), points=(POINT,),
        original=FIGURES, compressed=FIGURES, simulated=Figures(),
        parity=Parity(split="test", samples=9, outputs=(OutputParity(
            name="", relative_error=1e-3, agreement=0.999, decision="same top class",
            max_steps=0.5, mean_steps=0.01),)),
        stages=(StageRecord(name="prune", seconds=1.5, figures=FIGURES, notes=("half",)),),
        layers=(LayerRecord(name="conv", op="conv2d", channels_before=16, channels=8,
                            macs_before=100, macs=50, weight_bits=4, activation_bits=8,
                            compute_bits=8),),
        uncounted=("fft x 1",),
        breaches=(Breach(constraint="size", figure="size_bytes", value=None, limit=5.0),))


def test_a_full_manifest_survives_json(manifest: Any) -> None:
    again = Manifest.model_validate_json(manifest.model_dump_json())
    assert again == manifest
    assert again.model.inputs[0].shape == (None, 3, 32, 32)
    assert again.report.breaches[0].value is None
    assert again.model_dump_json() == manifest.model_dump_json()


def test_the_default_point_is_the_first_or_all_segments(manifest: Any) -> None:
    assert manifest.model.default_point.thresholds == (0.875, None)
    alone = manifest.model.replace(points=(), segments=(segment(0),))
    assert (alone.default_point.path, alone.default_point.rules) == ((0,), ())


@pytest.mark.parametrize(("points", "message"), [
    ((POINT, POINT), r"need different names, got \['default', 'default'\]"),
    ((POINT.replace(path=(0, 1, 3)),), r"runs the segments \(0, 1, 3\), but there are only 3"),
])
def test_points_that_do_not_fit_are_refused(manifest: Any, points: tuple[Any, ...],
                                            message: str) -> None:
    content = json.loads(manifest.model_dump_json())
    content["model"]["points"] = [json.loads(point.model_dump_json()) for point in points]
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate_json(json.dumps(content))


@pytest.mark.parametrize(("change", "message"), [
    ({"rules": []}, "0 rules for a path of 3 segments"),
    ({"path": []}, "at least 1"),
    ({"rules": [{"threshold": 0.5}] * 2}, "needs 4 weights at every exit"),
    ({"policy": "luck"}, "'confidence', 'margin', 'entropy', 'patience' or 'gate'"),
])
def test_a_point_that_cannot_be_walked_is_refused(change: dict[str, Any], message: str) -> None:
    content = json.loads(POINT.model_dump_json()) | change
    with pytest.raises(ValidationError, match=message):
        OperatingPoint.model_validate_json(json.dumps(content))


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, FORMAT_VERSION - 1, 0, "1.0", None])
def test_another_format_is_refused(manifest: Any, version: Any) -> None:
    content = json.loads(manifest.model_dump_json()) | {"format_version": version}
    with pytest.raises(ValidationError, match="format_version"):
        Manifest.model_validate_json(json.dumps(content))


@pytest.mark.parametrize(("part", "change"), [
    (None, {"extra": 1}), ("report", {"seed": "three"}), ("report", {"segments": []}),
    ("model", {"segments": [{"file": "a"}]}), ("model", {"seed": 1}),
])
def test_a_field_that_is_unknown_or_wrong_is_refused(manifest: Any, part: str | None,
                                                     change: dict[str, Any]) -> None:
    content = json.loads(manifest.model_dump_json())
    (content if part is None else content[part]).update(change)
    with pytest.raises(ValidationError, match=next(iter(change))):
        Manifest.model_validate_json(json.dumps(content))


@pytest.mark.parametrize(("part", "name"), [("model", "name"), ("report", "seed")])
def test_a_manifest_is_frozen(manifest: Any, part: str, name: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(getattr(manifest, part), name, 4)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(manifest, part, None)


def test_each_part_is_changed_alone(manifest: Any) -> None:
    changed = manifest.with_model(name="other")
    assert (changed.model.name, changed.report) == ("other", manifest.report)
    changed = manifest.with_report(seed=9)
    assert (changed.report.seed, changed.model) == (9, manifest.model)
    with pytest.raises(UsageError, match="ModelSpec has no field 'seed'"):
        manifest.with_model(seed=9)


def test_an_exit_that_is_never_taken_is_null_in_json(manifest: Any) -> None:
    text = manifest.model_dump_json(exclude_none=True)
    rules = json.loads(text)["model"]["points"][0]["rules"]
    assert [rule["threshold"] for rule in rules] == [0.875, None]
    assert Manifest.model_validate_json(text) == manifest


def test_a_rule_without_a_threshold_is_refused() -> None:
    with pytest.raises(ValidationError, match="threshold"):
        ExitRule.model_validate_json('{"temperature": 1.0}')


@pytest.mark.parametrize(("bits", "count", "bytes_"), [
    (4, 5, 3), (3, 4, 2), (2, 5, 2), (1, 8, 1), (1, 9, 2),
])
def test_packed_integers_take_whole_bytes(bits: int, count: int, bytes_: int) -> None:
    assert LowBitTensor(offset=0, count=count, bits=bits, low=0).packed_bytes == bytes_


@pytest.mark.parametrize("change", [{"bits": 0}, {"bits": 5}, {"count": 0}, {"offset": -1},
                                    {"low": -129}, {"low": 128}, {"step": 0}, {"step": 256}])
def test_a_low_bit_tensor_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        LowBitTensor(**{"offset": 0, "count": 8, "bits": 4, "low": -8, **change})
