"""Manifests as a run would write them."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from edgewright.core import (
    Breach,
    Budget,
    ExitProfile,
    ExitRule,
    Figures,
    LayerRecord,
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

ORT = "onnxruntime 1.22.0"
TORCH = "torch 2.11.0"


def measured(name: str, value: float, **details: Any) -> Measurement:
    return Measurement(name=name, value=value, kind="measured", **details)


def modelled(name: str, value: float, **details: Any) -> Measurement:
    return Measurement(name=name, value=value, kind="modelled", **details)


def file_figures(accuracy: float, size: float, parameters: float, latency: float, mean: float,
                 macs: float, energy: float, ram: float) -> Figures:
    return Figures.of(
        measured("accuracy", accuracy, split="test", samples=10_000, runtime=ORT),
        measured("size_bytes", size),
        measured("parameters", parameters),
        measured("latency_ms", latency, samples=200, runtime=ORT, low=0.94 * latency,
                 high=1.11 * latency),
        measured("mean_latency_ms", mean, split="test", samples=10_000, runtime=ORT),
        modelled("macs", macs, split="test", samples=10_000, runtime="counted from the graph"),
        modelled("energy_mj", energy, runtime="45 nm costs (Horowitz, 2014)"),
        modelled("ram_bytes", ram, runtime="liveness of activations"))


def stage(name: str, seconds: float, accuracy: float, size: float, macs: float,
          *notes: str) -> StageRecord:
    return StageRecord(name=name, seconds=seconds, notes=notes, figures=Figures.of(
        measured("accuracy", accuracy, split="val", samples=5_000, runtime=TORCH),
        modelled("size_bytes", size, runtime="weights at their bits"),
        modelled("macs", macs)))


STAGES = (
    stage("baseline", 3.4, 0.9182, 1_092_000, 40_800_000, "exported with 22 layers"),
    stage("prune channels", 41.2, 0.8421, 566_000, 20_300_000,
          "criterion taylor, 50 % of MACs asked", "masked = sliced to 3.1e-07"),
    stage("recover", 1824.0, 0.9135, 566_000, 20_300_000, "30 epochs, distilled from the original"),
    stage("exits", 312.7, 0.9141, 581_000, 20_700_000, "2 exits after layer1.2 and layer2.2"),
    stage("quantise", 655.1, 0.9129, 151_800, 20_700_000, "qat, 8 bits, 4 bits in layer3"),
    stage("export", 2.2, 0.9129, 153_100, 20_700_000),
)


def layers() -> tuple[LayerRecord, ...]:
    def conv(name: str, before: int, after: int, macs: int, bits: int = 8) -> LayerRecord:
        kept = macs * after * after // (before * before)
        return LayerRecord(name=name, op="conv2d", channels_before=before, channels=after,
                           macs_before=macs, macs=kept, weight_bits=bits, activation_bits=8,
                           compute_bits=8)

    blocks = [conv(f"layer{s}.{b}.conv{c}", width, kept, 2_359_296, 4 if s == 3 else 8)
              for s, width, kept in ((1, 16, 12), (2, 32, 23), (3, 64, 40))
              for b in range(3) for c in (1, 2)]
    blocks[5] = LayerRecord(name="layer1.2.conv2", op="conv2d", channels_before=16, channels=0,
                            macs_before=2_359_296, macs=0, weight_bits=32, activation_bits=32,
                            compute_bits=32)
    return (
        conv("conv1", 16, 16, 442_368), *blocks,
        LayerRecord(name="exit1.head", op="linear", channels_before=0, channels=10, macs_before=0,
                    macs=120, weight_bits=8, activation_bits=8, compute_bits=8),
        LayerRecord(name="fc", op="linear", channels_before=10, channels=10, macs_before=640,
                    macs=400, weight_bits=8, activation_bits=8, compute_bits=8))


def segment(index: int, size: int, macs: int) -> Segment:
    return Segment(file=f"segments/{index}.onnx", size_bytes=size, macs=macs, energy_mj=macs * 1e-9,
                   sha256=hashlib.sha256(bytes([index])).hexdigest(), ram_bytes=24_576,
                   stored_bytes=size // 2)


@pytest.fixture
def manifest(manifest_of: Callable[..., Manifest]) -> Manifest:
    return manifest_of(
        name="torchvision:resnet20", data="cifar10", seed=7,
        recipe={"name": "balanced", "prune": {"criterion": "taylor", "ratio": 0.5},
                "quantize": {"method": "qat", "weights": 8, "ignore": ["fc"]}},
        budget=Budget(size="160 kB", latency="60 %", max_drop="0.5 %"),
        versions={"edgewright": "0.1.0", "torch": "2.11.0", "onnxruntime": "1.22.0",
                  "numpy": "2.2.6"},
        machine="Cortex-A76, 4 cores", runtime="onnxruntime",
        inputs=(TensorSpec(name="image", dtype="float32", shape=(None, 3, 32, 32)),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=(None, 10)),),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                 "truck"),
        preprocessing=Preprocessing(channels=3, height=32, width=32, mean=(0.4914, 0.4822, 0.4465),
                                    std=(0.247, 0.2435, 0.2616)),
        segments=(segment(0, 41_200, 6_200_000), segment(1, 52_300, 7_100_000),
                  segment(2, 59_600, 7_400_000)),
        points=(OperatingPoint(
            name="default", path=(0, 1, 2),
            rules=(ExitRule(threshold=0.92), ExitRule(threshold=0.885)),
            calibrated=ExitProfile(split="val", samples=5_000, shares=(0.52, 0.31, 0.17),
                                   errors_before=(0.041, 0.02), errors_after=(0.012, 0.011)),
            tested=ExitProfile(split="test", samples=10_000, shares=(0.5234, 0.3111, 0.1655))),),
        original=file_figures(0.9173, 1_092_437, 272_474, 4.12, 4.15, 40_813_184, 0.188, 131_072),
        compressed=file_figures(0.9143, 153_127, 139_120, 2.04, 1.31, 12_700_000, 0.0091, 49_152),
        simulated=Figures.of(
            measured("accuracy", 0.9146, split="test", samples=10_000, runtime=TORCH)),
        parity=Parity(split="test", samples=10_000, outputs=(OutputParity(
            name="", relative_error=0.00312, agreement=0.9987, decision="same top class",
            max_steps=1.25, mean_steps=0.0312),)),
        stages=STAGES, layers=layers(), uncounted=("aten.grid_sampler", "aten.cumsum"))


@pytest.fixture
def breached(manifest: Manifest) -> Manifest:
    """Too large, less accurate than asked, without a RAM figure, and slower than the original."""
    compressed = manifest.report.compressed.with_(
        measured("size_bytes", 192_000),
        measured("latency_ms", 4.944, samples=200, runtime=ORT, low=4.8, high=5.2))
    without_ram = tuple(m for m in compressed.measurements if m.name != "ram_bytes")
    return manifest.with_report(
        compressed=Figures(measurements=without_ram),
        budget=Budget(size="160 kB", ram="64 kB", accuracy="92 %"),
        breaches=(
            Breach(constraint="size", figure="size_bytes", value=192_000, limit=160_000),
            Breach(constraint="ram", figure="ram_bytes", value=float("nan"), limit=64_000),
            Breach(constraint="accuracy", figure="accuracy", value=0.9143, limit=0.92,
                   unit="fraction", at_most=False)))


@pytest.fixture
def bare(manifest_of: Callable[..., Manifest]) -> Manifest:
    """As little as a manifest can hold."""
    return manifest_of(name="net", data="digits", machine="")
