"""Several bundles in one: a cascade, and variants to choose among."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.bundle import read_bundle, write_bundle
from edgewright.core import Numbers
from edgewright.errors import UsageError
from edgewright.exits import ExitCalibration
from edgewright.pipeline import Result
from edgewright.runtime import confidence
from edgewright.task import Task


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, quadrant_task: Task) -> Any:
    """A bundle of a network that looks at its pictures from further away."""
    torch.manual_seed(3)
    model = ew.AtResolution(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                                          nn.Flatten(), nn.Linear(16, 4)), 2)
    program = ew.Program.capture(model, quadrant_task.train.example(2))
    trained = ew.fit(program, quadrant_task, ew.Training(epochs=6, lr=0.05, augment=False))
    recipe = ew.Recipe(name="as-it-is")
    return ew.compress(trained, quadrant_task, None, recipe, tmp_path_factory.mktemp("small") / "r",
                       quiet=True).bundle


def test_a_cascade_uses_the_large_model_if_the_small_one_is_not_confident(
        small: Any, finished: Result, quadrant_task: Task, tmp_path: Path) -> None:
    config = ExitCalibration(max_drop=0.02, points={"cheap": 0.2})
    manifest = ew.cascade(small, finished.bundle, quadrant_task, tmp_path / "both.edge",
                          config=config, quiet=True)
    session, alone = ew.load(tmp_path / "both.edge"), ew.load(small)
    assert [segment.reads for segment in manifest.model.segments] == ["features", "inputs", "features"]
    assert [point.name for point in manifest.model.points] == ["default", "cheap"]
    images = next(quadrant_task.test.batches(1000)).inputs[0].numpy()
    first = alone(images).output
    rule = session.points[0].rules[0]
    assert rule.threshold is not None
    leaves = confidence(first, rule.temperature) >= rule.threshold
    found = session(images)
    np.testing.assert_array_equal(found.exit == 0, leaves)
    np.testing.assert_allclose(found.output[leaves], first[leaves], rtol=1e-5, atol=1e-6)
    every = session.run_all_exits(images)
    expected = ew.load(finished.bundle).run_all_exits(images)
    for mine, theirs in zip(every[1:], expected, strict=True):
        np.testing.assert_allclose(mine.outputs[0], theirs.outputs[0], rtol=1e-4, atol=1e-5)
    cheap = manifest.model.points[1].figures
    assert cheap["macs"] <= manifest.report.compressed["macs"]
    assert manifest.report.compressed["accuracy"] >= manifest.report.original["accuracy"] - 0.1
    assert {m.name for m in manifest.report.compressed.measurements} >= {
        "accuracy", "macs", "energy_mj", "latency_ms", "mean_latency_ms", "size_bytes"}


def test_variants_are_points_and_equal_files_are_stored_once(small: Any, finished: Result, quadrant_task: Task,
                                                             tmp_path: Path) -> None:
    manifest = ew.combine({"full": finished.bundle, "saver": small, "again": finished.bundle},
                          tmp_path / "all.edge")
    assert [point.name for point in manifest.model.points] == ["full", "saver", "again"]
    assert len(manifest.model.segments) == 3
    assert manifest.model.points[2].path == manifest.model.points[0].path == (0, 1)
    session = ew.load(tmp_path / "all.edge")
    images = next(quadrant_task.test.batches(1000)).inputs[0].numpy()
    for name, path in (("full", finished.bundle), ("saver", small)):
        session.point = name
        np.testing.assert_array_equal(session(images).output, ew.load(path)(images).output)
    session.point = None
    session.power = "low"
    latencies = {point.name: point.figures["mean_latency_ms"] for point in manifest.model.points}
    assert latencies[session(images).point] == min(latencies.values())
    size = (tmp_path / "all.edge").stat().st_size
    assert size < small.stat().st_size + finished.bundle.stat().st_size


def test_incompatible_bundles_raise_by_name(small: Any, finished: Result, quadrant_task: Task,
                                            tmp_path: Path) -> None:
    other = tmp_path / "other.edge"
    bundle = read_bundle(small)
    spec = bundle.manifest.model.inputs[0]
    for change, message in (
            ({"inputs": (spec.replace(shape=(None, 1, 9, 9)),)},
             "'full' and 'other' have different inputs"),
            ({"classes": ("a", "b", "c", "d")}, "'full' and 'other' have different classes"),
            ({"decoding": (Numbers(output="output_0"),)},
             "'full' and 'other' have different decoding"),
            ({"outputs": bundle.manifest.model.outputs * 2}, "'full' and 'other' have different outputs")):
        write_bundle(other, bundle.manifest.with_model(**change), bundle.segments)
        with pytest.raises(UsageError, match=message):
            ew.combine({"full": finished.bundle, "other": other}, tmp_path / "all.edge")
    with pytest.raises(UsageError, match="1 bundles cannot be combined"):
        ew.combine({"full": small}, tmp_path / "all.edge")
    assert not (tmp_path / "all.edge").exists()
