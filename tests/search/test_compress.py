"""A budget and a time in, a verified file out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from typer.testing import CliRunner

import edgewright as ew
from edgewright.bundle import read_bundle
from edgewright.cli import app
from edgewright.core import SearchRecord
from edgewright.errors import BudgetError, BundleError, StorageError, UsageError
from edgewright.pipeline import Recipe, Result, verify
from edgewright.search import pick, plan, read_record
from edgewright.search._storage import locate_store
from edgewright.search._store import TrialStore
from edgewright.task import Task

BUDGET = ew.Budget(size="60 %", macs="70 %", max_drop="30 %")
SHORT = ew.Training(epochs=1, time=60, batch_size=32, lr=0.02, augment=False)
QUICK = ew.Search(training=SHORT, quantized_training=SHORT, samples=32,
                  candidates=2, survivors=2,
                  quantize=ew.Quantization(calibration_samples=64, range_estimator="minmax"))


@pytest.fixture(scope="module")
def searched(trained_net: nn.Module, quadrant_task: Task,
             tmp_path_factory: pytest.TempPathFactory) -> Result:
    return ew.compress(trained_net, quadrant_task, BUDGET, time=3600, search=QUICK,
                       out=tmp_path_factory.mktemp("search") / "run", quiet=True)


def test_the_file_is_within_the_budget(searched: Result) -> None:
    searched.check()
    report = searched.manifest.report
    assert report.compressed["size_bytes"] <= 0.6 * report.original["size_bytes"]
    assert report.parity is not None
    assert read_bundle(searched.bundle).manifest == searched.manifest


def test_the_recipe_beside_it_is_the_one_that_made_it(searched: Result) -> None:
    recipe = Recipe.load(searched.bundle.with_name("recipe.yaml"))
    assert recipe.model_dump(mode="json") == searched.manifest.report.recipe


def test_exits_and_cuts_compete_as_measured_files(searched: Result) -> None:
    folder = searched.bundle.parent
    trials = TrialStore(locate_store(folder), seed=0).trials()
    tried = {trial.name.partition("-")[2]: trial for trial in trials
             if trial.recipe.exits is not None}
    assert tried.keys() >= {"cut-wide", "exits"}
    assert tried["exits"].exits is not None
    for trial in tried.values():
        model = read_bundle(trial.folder(folder) / "trial.edge").manifest.model
        assert trial.figures["macs"] <= sum(segment.macs for segment in model.segments)
        if len(model.segments) > 1:
            assert model.points[0].calibrated is not None


def test_the_same_command_goes_on_from_what_is_there(searched: Result, trained_net: nn.Module,
                                                     quadrant_task: Task) -> None:
    folder = searched.bundle.parent
    trials = sorted(path.name for path in (folder / "trials").iterdir())
    again = ew.compress(trained_net, quadrant_task, BUDGET, time=3600, search=QUICK, out=folder,
                        quiet=True)
    assert again.manifest.report.compressed.metric == searched.manifest.report.compressed.metric
    assert set(trials) <= {path.name for path in (folder / "trials").iterdir()}


def test_another_budget_does_not_go_on(searched: Result, trained_net: nn.Module,
                                       quadrant_task: Task) -> None:
    with pytest.raises(StorageError, match="holds another run"):
        ew.compress(trained_net, quadrant_task, ew.Budget(size="50 %"), time=3600, search=QUICK,
                    out=searched.bundle.parent, quiet=True)


def test_a_limit_on_the_drop_alone_searches_the_smallest_file(
        trained_net: nn.Module, quadrant_task: Task, tmp_path: Path) -> None:
    result = ew.compress(trained_net, quadrant_task, ew.Budget(max_drop="30 %"), time=240,
                         search=QUICK, out=tmp_path / "run", quiet=True)
    result.check()
    record = read_record(tmp_path / "run")
    sizes = {name: record.trial(name).figures["size_bytes"] for name in record.front}
    assert record.chosen != "quantized"
    assert sizes[record.chosen] == min(sizes.values())


def test_the_front_has_the_result_and_no_dominated_file(searched: Result) -> None:
    record = read_record(searched.bundle.parent)
    front = [record.trial(name) for name in record.front]
    assert record.chosen in record.front
    sizes = [trial.figures["size_bytes"] for trial in front]
    assert sizes == sorted(sizes)


def test_the_record_says_what_was_tried(searched: Result) -> None:
    record = read_record(searched.bundle.parent)
    kept = SearchRecord.model_validate_json(searched.bundle.with_name("search.json").read_bytes())
    assert kept.replace(seconds=0, phases={}) == record.replace(seconds=0, phases={})
    quantized, *others = record.trials
    assert quantized.name == "quantized"
    assert quantized.bits.keys() == {8}
    assert not quantized.removed
    assert not quantized.widths
    assert all(trial.removed or trial.widths or trial.bits != quantized.bits for trial in others)
    assert all(trial.predicted["size"] > 0 for trial in others if trial.predicted)
    assert any(trial.predicted for trial in others)
    chosen = record.trial(record.chosen)
    assert chosen.tested is not None
    assert chosen.tested.metric == searched.manifest.report.compressed.metric
    assert record.original.metric is not None
    assert record.validated.metric is not None
    assert (record.original.metric.split, record.validated.metric.split) == ("test", "val")
    assert list(record.phases)[:3] == ["prepare", "sensitivities", "race"]
    assert list(record.phases)[-1] == "verify"
    assert sum(record.phases.values()) == pytest.approx(record.seconds)


def test_the_report_shows_the_race(searched: Result) -> None:
    page = searched.report.read_text()
    for text in ("<h2>Search</h2>", "Accuracy against latency", "What each stage cost",
                 "Predicted and measured", "quantized"):
        assert text in page


def test_another_file_of_the_front_is_picked(searched: Result, tmp_path: Path) -> None:
    folder, out = searched.bundle.parent, tmp_path / "picked.edge"
    record = read_record(folder)
    smallest = record.trial(record.front[0])
    limit = ew.Budget(size=f"{smallest.stated['size_bytes']:.0f} B")
    assert pick(folder, limit, out).name == smallest.name
    assert ew.load(out).model.inputs == searched.manifest.model.inputs
    with pytest.raises(BudgetError, match=r"no file of the front in .* is within the budget"):
        pick(folder, ew.Budget(size="1 B"), out)


@pytest.fixture
def untested(searched: Result, tmp_path: Path) -> Path:
    """The directory of a search that has verified none of its files on the test split."""
    folder = tmp_path / "untested"
    shutil.copytree(searched.bundle.parent, folder)
    for bundle in (folder / "trials").glob("*/model.edge"):
        bundle.unlink()
    return folder


def test_a_picked_file_is_verified_on_the_test_split(untested: Path, quadrant_task: Task,
                                                     tmp_path: Path) -> None:
    out = tmp_path / "picked.edge"
    plain = pick(untested, ew.Budget(size="100 %"), out)
    assert not plain.is_tested
    assert (metric := read_bundle(out).manifest.report.compressed.metric) is not None
    assert metric.split == "val"
    with pytest.raises(BundleError, match="on the validation split only"):
        verify(out, quadrant_task)
    tested = pick(untested, ew.Budget(size="100 %"), out, quadrant_task)
    assert tested.is_tested
    report = read_bundle(out).manifest.report
    assert report.compressed.metric is not None
    assert (report.compressed.metric.split, report.breaches) == ("test", ())
    assert report.original.metric is not None
    assert report.original.metric.split == "test"
    assert verify(out, quadrant_task)


def test_the_front_on_the_command_line(searched: Result, tmp_path: Path) -> None:
    runner, folder = CliRunner(), searched.bundle.parent
    shown = runner.invoke(app, ["front", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "Accuracy" in shown.output
    assert (folder / "front.svg").read_text().startswith("<svg")
    assert (folder / "front.html").read_text().startswith("<!doctype html>")
    plot = tmp_path / "a.svg"
    assert runner.invoke(app, ["front", str(folder), "--plot", str(plot)]).exit_code == 0
    assert plot.is_file()
    refused = runner.invoke(app, ["front", str(folder), "--plot", "a.png"])
    assert isinstance(refused.exception, UsageError)
    out = tmp_path / "a.edge"
    picked = runner.invoke(app, ["pick", str(folder), "--budget", "size=100%", "--out", str(out)])
    assert picked.exit_code == 0, picked.output
    assert out.is_file()


def test_a_directory_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no search"):
        read_record(tmp_path)


def test_an_impossible_budget_is_refused_before_any_training(
        trained_net: nn.Module, quadrant_task: Task, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"the budget cannot be met: macs can be reduced to"):
        ew.compress(trained_net, quadrant_task, ew.Budget(macs="1"), time=3600, search=QUICK,
                    out=tmp_path / "run", quiet=True)
    assert [path.name for path in (tmp_path / "run" / "trials").iterdir()] == ["quantized"]


def test_a_plan_trains_nothing(trained_net: nn.Module, quadrant_task: Task,
                               tmp_path: Path) -> None:
    found = plan(trained_net, quadrant_task, BUDGET, tmp_path / "run", time=600, search=QUICK,
                 quiet=True)
    original = read_bundle(tmp_path / "run" / "trials" / "quantized" / "baseline.edge").manifest
    assert 0 < found.answers[0].costs["size"] <= original.report.compressed["size_bytes"]
    assert found.rounds[0].candidates == 2
    assert not (tmp_path / "run" / "model.edge").exists()
    assert [path.name for path in (tmp_path / "run" / "trials").iterdir()] == ["quantized"]


def test_a_time_that_is_too_short_says_what_fits(trained_net: nn.Module, quadrant_task: Task,
                                                 tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the time is too short: .* give at least \d+ s"):
        ew.compress(trained_net, quadrant_task, BUDGET, time=0.1, search=QUICK,
                    out=tmp_path / "run", quiet=True)


@pytest.mark.parametrize(("settings", "message"), [
    ({"time": "20m", "recipe": "fast"}, "time is for a search, but the recipe 'fast' is run"),
    ({"time": "20m"}, "time is for a search, but there is no budget"),
    ({"search": QUICK, "recipe": Recipe(name="own")}, "search is for a search, but the recipe 'own'"),
    ({"time": "0s", "rate": 0.5}, "the time must be positive, got '0s'"),
    ({"time": "soon", "rate": 0.5}, "'soon' is not a quantity")])
def test_settings_that_contradict_each_other(trained_net: nn.Module, quadrant_task: Task,
                                             tmp_path: Path, settings: dict[str, Any],
                                             message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ew.compress(trained_net, quadrant_task, out=tmp_path / "run", quiet=True, **settings)
