"""A bundle is held to what its manifest says, and one that says nothing is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.bundle import read_bundle, write_bundle
from edgewright.core import Figures, Measurement
from edgewright.errors import BundleError, DataError, ParityError
from edgewright.pipeline import Check, Result, verify
from edgewright.task import Task


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Task]:
    torch.manual_seed(0)
    x, y = torch.randn(90, 6), torch.arange(90) % 3
    x[torch.arange(90), y] += 3
    model = nn.Linear(6, 3)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3, 6))
    task = Task((x[:40], y[:40]), (x[40:60], y[40:60]), (x[60:], y[60:]), classes="abc")
    out = tmp_path_factory.mktemp("verify") / "run"
    return ew.compress(model, task, recipe="fast", out=out, quiet=True).bundle, task


def altered(path: Path, folder: Path, figures: Figures) -> Path:
    bundle = read_bundle(path)
    manifest = bundle.manifest.with_report(compressed=figures)
    write_bundle(folder / "altered.edge", manifest, bundle.segments)
    return folder / "altered.edge"


def test_a_small_test_split_is_verified_to_two_samples(small: tuple[Path, Task]) -> None:
    path, task = small
    accuracy, macs, energy = verify(path, task)
    assert (accuracy.figure, macs.figure, energy.figure) == ("accuracy", "macs", "energy_mj")
    assert accuracy.allowed == pytest.approx(2 / 30)
    assert all(check.holds for check in (accuracy, macs, energy))


def test_a_manifest_without_accuracy_raises(small: tuple[Path, Task],
                                                   tmp_path: Path) -> None:
    path, task = small
    stated = read_bundle(path).manifest.report.compressed
    costs = [m for m in stated.measurements if m.name != "accuracy"]
    for figures in (Figures(), Figures.of(*costs)):
        bundle = altered(path, tmp_path, figures)
        with pytest.raises(BundleError, match=r"altered\.edge states no metric at its operating "
                                              r"point .*nothing to compare with") as error:
            verify(bundle, task)
        assert error.value.exit_code == 5


def test_a_nan_figure_never_holds() -> None:
    assert not Check("accuracy", stated=math.nan, measured=0.9, allowed=0.1).holds
    assert not Check("accuracy", stated=0.9, measured=math.nan, allowed=0.1).holds


def test_other_sample_counts_and_classes_raise(
        small: tuple[Path, Task]) -> None:
    path, task = small
    fewer = Task(task.train, task.val, task.test.select(range(20)))
    with pytest.raises(DataError, match="states accuracy on 30 test samples, but the test split "
                                        "of task has 20; give the data it was made with"):
        verify(path, fewer)
    swapped = Task(task.train, task.val, task.test, classes="acb")
    with pytest.raises(DataError, match="has the classes a, b, c, but task has a, c, b"):
        verify(path, swapped)


def test_every_operating_point_is_verified(finished: Result, quadrant_task: Task,
                                                      tmp_path: Path) -> None:
    path = tmp_path / "two.edge"
    ew.combine({"full": finished.bundle.parent / "baseline.edge", "small": finished.bundle}, path)
    checks = verify(path, quadrant_task)
    assert {check.point for check in checks} == {None, "small"}
    bundle = read_bundle(path)
    first, second = bundle.manifest.model.points
    boast = second.model_copy(update={"figures": second.figures.with_(
        Measurement(name="macs", value=1, kind="modelled"))})
    write_bundle(path, bundle.manifest.with_model(points=(first, boast)),
                 bundle.segments)
    with pytest.raises(ParityError, match="macs at small: the manifest says 1, measured"):
        verify(path, quadrant_task)
