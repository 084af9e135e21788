"""A run whose weights are pruned: the stage, its record, and the zeros in the bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from torch import nn

import edgewright as ew
from edgewright.bundle import read_bundle
from edgewright.exits import ExitCalibration
from edgewright.pipeline import Recipe, Result
from edgewright.task import Task
from edgewright.training import Training

SHORT = Training(epochs=2, batch_size=32, lr=0.02, augment=False)
WEIGHTS = ew.WeightPruning(sparsity=0.8, every=2, training=SHORT)
RECIPE = Recipe(name="sparse", weights=WEIGHTS,
                exits=ew.EarlyExits(places=1, training=SHORT, keep="if_taken",
                                      calibration=ExitCalibration(max_drop=0.05)),
                quantize=ew.Quantization(method=ew.QAT(training=SHORT), calibration_samples=64))


def compress(net: nn.Module, task: Task, out: Path, recipe: Recipe) -> Result:
    return ew.compress(net, task, recipe=recipe, out=out, quiet=True)


@pytest.fixture(scope="module")
def result(trained_net: nn.Module, quadrant_task: Task,
           tmp_path_factory: pytest.TempPathFactory) -> Result:
    return compress(trained_net, quadrant_task, tmp_path_factory.mktemp("sparse") / "run", RECIPE)


def test_the_stage_has_its_place_and_its_record(result: Result) -> None:
    stages = {stage.name: stage for stage in result.manifest.report.stages}
    assert list(stages) == ["capture", "weights", "exits", "quantize"]
    assert stages["weights"].notes == ("set 80 % of the weights to zero (unstructured, by magnitude)",)
    assert (result.bundle.parent / "stages" / "1-weights.pt2").is_file()
    assert result.manifest.report.compressed["accuracy"] > 0.8


def test_the_bundle_holds_the_zeros(result: Result) -> None:
    zeros = total = 0
    for data in read_bundle(result.bundle).segments.values():
        for tensor in onnx.load_from_string(data).graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype == np.int8 and array.ndim == 4:
                zeros, total = zeros + int((array == 0).sum()), total + array.size
    assert total == 16 * 9 + 2 * 16 * 16 * 9
    assert zeros / total > 0.75  # of all weights together it is 80 %
    assert set(result.program.sparsity) >= {"stem.weight", "one.weight", "two.weight"}


def test_zeros_reduce_the_bytes(result: Result, trained_net: nn.Module, quadrant_task: Task,
                               tmp_path: Path) -> None:
    dense = compress(trained_net, quadrant_task, tmp_path / "run",
                     RECIPE.replace(weights=None))
    assert result.manifest.report.compressed["size_bytes"] == result.bundle.stat().st_size
    packed = [r.manifest.report.compressed["size_bytes"] for r in (result, dense)]
    assert packed[0] < 0.8 * packed[1]


def test_an_interrupted_run_gives_the_same_files(result: Result, trained_net: nn.Module,
                                                   quadrant_task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(result.bundle.parent, out)
    for name in ("model.edge", "manifest.json", "report.html", "stages/1-weights.json",
                 "stages/2-exits.json", "stages/3-quantize.json"):
        (out / name).unlink()
    resumed = compress(trained_net, quadrant_task, out, RECIPE)
    assert [s.sha256 for s in resumed.manifest.model.segments] == [
        s.sha256 for s in result.manifest.model.segments]


def test_the_recipe_round_trips(result: Result) -> None:
    assert Recipe.load(result.bundle.parent / "recipe.yaml").weights == WEIGHTS
