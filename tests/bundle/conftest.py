"""A small manifest and its segments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewright.bundle import write_bundle
from edgewright.core import Budget, Figures, Manifest, Measurement, Segment, TensorSpec

SEGMENTS = {
    "segments/0.onnx": np.random.default_rng(0).bytes(300) + bytes(200),
    "segments/1.onnx": b"the second segment" * 9,
}


@pytest.fixture
def segments() -> dict[str, bytes]:
    return dict(SEGMENTS)


@pytest.fixture
def make_manifest(manifest_of: Callable[..., Manifest]) -> Callable[..., Manifest]:
    def make(names: tuple[str, ...] = tuple(SEGMENTS), **fields: object) -> Manifest:
        spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        parts = tuple(Segment(file=name, sha256="", size_bytes=0, macs=10, energy_mj=0.1,
                              ram_bytes=8) for name in names)
        accuracy = Measurement(name="accuracy", value=0.9, kind="measured", split="test")
        return manifest_of(**{
            "recipe": {"passes": ["prune"], "none": None}, "budget": Budget(size="1 kB"),
            "versions": {"numpy": "2"}, "inputs": (spec,), "outputs": (spec,), "segments": parts,
            "original": Figures.of(accuracy), "compressed": Figures.of(accuracy), **fields})

    return make


@pytest.fixture
def bundle_path(tmp_path: Path, make_manifest: Callable[..., Manifest]) -> Path:
    path = tmp_path / "model.edge"
    write_bundle(path, make_manifest(), SEGMENTS)
    return path
