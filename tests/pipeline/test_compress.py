from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import edgewright as ew
from edgewright.bundle import read_bundle
from edgewright.errors import (
    BudgetError,
    DataError,
    ModelError,
    ParityError,
    StorageError,
    TrainingError,
    UsageError,
)
from edgewright.exits import predict_exits
from edgewright.pipeline import Recipe, Result, verify
from edgewright.pipeline import _draft as draft_module
from edgewright.pipeline._points import replace_points
from edgewright.pipeline._segments import to_segments
from edgewright.runtime import Session, load
from edgewright.task import Task
from edgewright.training import Training


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_writes_its_results_and_every_stage(finished: Result) -> None:
    folder = finished.bundle.parent
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    stages = {f"stages/{i}-{name}.{kind}" for i, name in
              enumerate(["capture", "prune", "recover", "exits", "quantize"])
              for kind in ("json", "pt2")}
    assert files == stages | {"stages/exit-choice.json", "run.json", "baseline.edge", "model.edge",
                              "manifest.json", "recipe.yaml", "report.html"}


def test_the_manifest_matches_the_files(finished: Result) -> None:
    manifest = finished.manifest
    folder = finished.bundle.parent
    assert manifest == read_bundle(finished.bundle).manifest
    assert json.loads((folder / "manifest.json").read_text()) == json.loads(
        manifest.model_dump_json())
    assert manifest.report.compressed["size_bytes"] == finished.bundle.stat().st_size
    assert manifest.report.original["size_bytes"] == (folder / "baseline.edge").stat().st_size
    assert manifest.report.compressed["macs"] < manifest.report.original["macs"]
    assert [stage.name for stage in manifest.report.stages] == ["capture", "prune", "recover", "exits",
                                                         "quantize"]
    assert len(manifest.model.segments) == 2
    tested = manifest.model.default_point.tested
    assert tested is not None
    assert sum(tested.shares) == pytest.approx(1)
    assert manifest.model.default_point.figures["accuracy"] == manifest.report.compressed["accuracy"]
    assert manifest.model.default_point.figures["mean_latency_ms"] == manifest.report.compressed["mean_latency_ms"]
    assert not manifest.report.breaches
    kinds = {m.name: m.kind for m in manifest.report.compressed.measurements}
    assert kinds["accuracy"] == kinds["latency_ms"] == kinds["size_bytes"] == "measured"
    assert kinds["energy_mj"] == kinds["macs"] == kinds["ram_bytes"] == "modelled"
    assert all(m.split in {"test", None} for m in manifest.report.compressed.measurements)


def test_layers_before_and_after_are_matched_by_name(finished: Result) -> None:
    layers = {layer.name: layer for layer in finished.manifest.report.layers}
    assert layers["stem"].channels_before == 16
    assert layers["stem"].channels < 16
    assert layers["head"].weight_bits == 8
    assert layers["exits.0"].channels_before == 0
    assert layers["exits.0"].channels == 4


def test_accuracy_is_that_of_the_file(finished: Result, quadrant_task: Task) -> None:
    session = load(finished.bundle)
    batch = next(quadrant_task.test.batches(1000))
    prediction = session(batch.inputs[0].numpy())
    hits = prediction.output.argmax(axis=1) == batch.targets.numpy()
    assert finished.manifest.report.compressed["accuracy"] == pytest.approx(hits.mean())
    assert hits.mean() > 0.8


def test_predictions_from_every_exit_match_the_session(finished: Result,
                                                       quadrant_task: Task) -> None:
    session = load(finished.bundle)
    point = session.points[0]
    batch = next(quadrant_task.test.batches(1000))
    inputs, targets = batch.inputs[0].numpy(), batch.targets.numpy()
    logits = [found.outputs[0] for found in session.run_all_exits(inputs)]
    told = predict_exits(logits, targets, point.rules, point.policy)
    prediction = session(inputs)
    assert np.array_equal(told.left_at(point.thresholds), prediction.exit)
    assert np.array_equal(told.quality_at(point.thresholds), prediction.output.argmax(axis=1) == targets)


def test_the_curve_matches_sessions_with_its_thresholds(finished: Result,
                                                           quadrant_task: Task) -> None:
    bundle = read_bundle(finished.bundle)
    curve, point = bundle.manifest.report.curve, bundle.manifest.model.points[0]
    assert curve[0].macs == sum(segment.macs for segment in bundle.manifest.model.segments)
    assert all(after.macs <= before.macs for before, after in pairwise(curve))
    there = point.replace(rules=tuple(
        rule.replace(threshold=threshold)
        for rule, threshold in zip(point.rules, curve[len(curve) // 2].thresholds, strict=True)))
    session = Session(replace_points(bundle, (there,)))
    batch = next(quadrant_task.test.batches(1000))
    answers = session(batch.inputs[0].numpy()).output.argmax(axis=1)
    assert curve[len(curve) // 2].accuracy == pytest.approx(
        (answers == batch.targets.numpy()).mean())
    assert curve[len(curve) // 2].macs == pytest.approx(session.stats().macs)


def test_the_same_call_again_finds_the_finished_run(
        finished: Result, run_whole: Callable[[Path], Result]) -> None:
    before = finished.bundle.read_bytes()
    again = run_whole(finished.bundle.parent)
    assert again.manifest == finished.manifest
    assert again.bundle.read_bytes() == before


def test_the_same_seed_gives_the_same_model_files(
        finished: Result, run_whole: Callable[[Path], Result], tmp_path: Path) -> None:
    other = run_whole(tmp_path / "run")
    assert [s.sha256 for s in other.manifest.model.segments] == [
        s.sha256 for s in finished.manifest.model.segments]
    assert other.manifest.model.default_point.rules == finished.manifest.model.default_point.rules


STAGES = ("capture", "prune", "recover", "exits", "quantize")


@pytest.mark.parametrize("stage", STAGES[1:])  # with the first one lost, all of it is made again
def test_a_run_that_lost_its_later_stages_gives_the_same_files(
        stage: str, finished: Result, run_whole: Callable[[Path], Result], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.bundle.parent, folder)
    for name in ("model.edge", "manifest.json", "report.html"):
        (folder / name).unlink()
    for index, name in enumerate(STAGES):
        if index >= STAGES.index(stage):
            (folder / "stages" / f"{index}-{name}.json").unlink()
    resumed = run_whole(folder)
    assert [s.sha256 for s in resumed.manifest.model.segments] == [
        s.sha256 for s in finished.manifest.model.segments]


def test_another_run_raises_and_is_not_changed(finished: Result, trained_net: nn.Module,
                                               quadrant_task: Task) -> None:
    folder = finished.bundle.parent
    before = listing(folder)
    with pytest.raises(StorageError, match=r"holds another run \(it differs in: .*recipe"):
        ew.compress(trained_net, quadrant_task, recipe="fast", out=folder, quiet=True)
    assert listing(folder) == before


def test_a_folder_with_other_files_raises(trained_net: nn.Module, quadrant_task: Task,
                                               tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match="not empty and does not hold a run"):
        ew.compress(trained_net, quadrant_task, recipe="fast", out=tmp_path, quiet=True)
    assert listing(tmp_path) == {"thesis.txt": b"years of work"}


@pytest.fixture(scope="module")
def squeezed(trained_net: nn.Module, quadrant_task: Task,
             tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Half the bytes, within a time that no file keeps."""
    return ew.compress(trained_net, quadrant_task, ew.Budget(latency="0.000001 ms"), "fast",
                       tmp_path_factory.mktemp("squeezed") / "run", rate=0.5, quiet=True)


def test_a_missed_budget_is_recorded_and_named(squeezed: Result) -> None:
    assert squeezed.bundle.is_file()
    assert [breach.constraint for breach in read_bundle(squeezed.bundle).manifest.report.breaches] == ["latency"]
    with pytest.raises(BudgetError, match=r"latency: latency_ms is .*, expected at most 1e-06"):
        squeezed.check()


def test_a_budget_below_the_smallest_program_raises_at_once(
        trained_net: nn.Module, quadrant_task: Task, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="size is limited to 10, but the smallest program"):
        ew.compress(trained_net, quadrant_task, ew.Budget(size="10 B"), "balanced", tmp_path / "run",
                    quiet=True)
    assert not (tmp_path / "run").exists()


def test_rate_is_a_budget_on_size(squeezed: Result) -> None:
    report = squeezed.manifest.report
    assert report.budget.size == ew.Budget(size="50 %").size
    assert report.compressed["size_bytes"] <= 0.5 * report.original["size_bytes"]


@pytest.mark.parametrize(("rate", "message"), [(1.5, "above 0 and below 1, got 1.5"),
                                               (0.0, "above 0 and below 1, got 0")])
def test_a_rate_out_of_range_raises(trained_net: nn.Module, quadrant_task: Task, rate: float,
                                        message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ew.compress(trained_net, quadrant_task, rate=rate)


def test_rate_and_size_contradict(trained_net: nn.Module, quadrant_task: Task) -> None:
    with pytest.raises(UsageError, match="both limit the size"):
        ew.compress(trained_net, quadrant_task, ew.Budget(size="1 kB"), rate=0.5)


def test_a_tight_budget_raises_the_pruning(trained_net: nn.Module, quadrant_task: Task,
                                           whole_recipe: Recipe, tmp_path: Path) -> None:
    recipe = whole_recipe.replace(exits=None, quantize=None, recover=None)
    result = ew.compress(trained_net, quadrant_task, ew.Budget(macs="30 %"), recipe,
                         tmp_path / "run", quiet=True)
    assert result.manifest.report.compressed["macs"] <= 0.3 * result.manifest.report.original["macs"]


def test_ignored_layers_keep_their_channels(trained_net: nn.Module, quadrant_task: Task,
                                            whole_recipe: Recipe, tmp_path: Path) -> None:
    recipe = whole_recipe.replace(exits=None, quantize=None, recover=None)
    result = ew.compress(trained_net, quadrant_task, recipe=recipe, out=tmp_path / "run",
                         ignore=["two"], quiet=True)
    channels = {layer.name: layer.channels for layer in result.manifest.report.layers}
    assert channels["two"] == 16
    assert channels["one"] < 16


def test_labels_out_of_range_are_named(trained_net: nn.Module, tmp_path: Path) -> None:
    x, y = torch.randn(40, 1, 8, 8), torch.arange(40) % 5
    with pytest.raises(DataError, match=r"sample 4 of the train split has label 4; allowed: 0\.\.3"):
        ew.compress(trained_net, Task((x, y), (x, y), (x[:3], y[:3])), out=tmp_path / "run",
                    quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_diverging_training_keeps_the_previous_stages(
        trained_net: nn.Module, quadrant_task: Task, whole_recipe: Recipe, tmp_path: Path) -> None:
    wild = Training(epochs=1, batch_size=32, lr=1e30, augment=False)
    recipe = whole_recipe.replace(recover=wild)
    with pytest.raises(TrainingError, match=r"diverged in epoch 1 of 1, at step \d+"):
        ew.compress(trained_net, quadrant_task, recipe=recipe, out=tmp_path / "run", quiet=True)
    kept = sorted(p.name for p in (tmp_path / "run" / "stages").iterdir())
    assert kept == ["0-capture.json", "0-capture.pt2", "1-prune.json", "1-prune.pt2"]


def test_non_finite_weights_are_named(trained_net: nn.Module, quadrant_task: Task,
                                               tmp_path: Path) -> None:
    broken = copy.deepcopy(trained_net)
    with torch.no_grad():
        broken.get_parameter("one.weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"the weight one\.weight holds NaN or infinity"):
        ew.compress(broken, quadrant_task, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_captured_names_the_line(quadrant_task: Task,
                                                        tmp_path: Path) -> None:
    class Picky(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.sum() > 0:  # depends on the data
                return x
            return -x

    with pytest.raises(ModelError, match=r"test_compress\.py:\d+ \(if x\.sum\(\) > 0:"):
        ew.compress(Picky(), quadrant_task, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_file_that_computes_something_else_is_never_bundled(
        trained_net: nn.Module, quadrant_task: Task, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(program: ew.Program, goal: Any) -> Any:  # the export of another model
        torch.manual_seed(1)
        state = {name: torch.rand_like(value) if value.is_floating_point() else value
                 for name, value in program.state_dict().items()}
        return to_segments(program.with_state(state) if not program.is_quantized else program,
                           goal)

    monkeypatch.setattr(draft_module, "to_segments", swapped)
    recipe = Recipe(name="none")
    with pytest.raises(ParityError, match=r"disagree on \d+ of 120 test samples, at most 2"):
        ew.compress(trained_net, quadrant_task, recipe=recipe, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "model.edge").exists()


def test_verify_passes_and_names_each_figure(finished: Result, quadrant_task: Task) -> None:
    checks = verify(finished.bundle, quadrant_task)
    assert [check.figure for check in checks] == ["accuracy", "macs", "energy_mj"]
    assert all(check.holds for check in checks)


def test_verify_fails_on_other_data(finished: Result, quadrant_task: Task) -> None:
    batch = next(quadrant_task.test.batches(1000))
    shifted = Task((batch.inputs[0], batch.targets),
                   test=(batch.inputs[0], (batch.targets + 1) % 4), name="shifted")
    with pytest.raises(ParityError, match=r"accuracy: the manifest says .*tolerance 0\.017"):
        verify(finished.bundle, shifted)


def test_several_inputs_and_nested_outputs_compress_without_exits(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 16), nn.Linear(6, 16), nn.Linear(16, 3)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.c(torch.relu(self.a(x) + self.b(y)))

    torch.manual_seed(0)
    x, y = torch.randn(300, 4), torch.randn(300, 6)
    labels = (x[:, 0] + y[:, 0] > 0).long()
    task = Task(((x, y), labels), test=((x[:50], y[:50]), labels[:50]))
    result = ew.compress(Two(), task, recipe="fast", out=tmp_path / "run", quiet=True)
    session = load(result.bundle)
    assert [spec.name for spec in session.model.inputs] == ["x", "y"]
    assert session(x[:7].numpy(), y[:7].numpy()).output.shape == (7, 3)


def test_recipes_round_trip_through_yaml(whole_recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(whole_recipe.to_yaml())
    assert Recipe.load(file) == whole_recipe


@pytest.mark.parametrize(("content", "message"), [
    ("prune: {ratio: 2}", "recipe.yaml:1: prune.ratio: Input should be less than 1, got 2"),
    ("prunes: {}", "recipe.yaml:1: prunes: unknown setting; did you mean prune"),
    ("prune: [", r"cannot read the recipe .*recipe.yaml:1: while parsing"),
    ("quantize: {weights: 5}", "quantization to 5 bits is not supported"),
])
def test_invalid_recipes_raise(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        Recipe.load(file)


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UsageError, match="no recipe is called 'quick'; known: fast, balanced"):
        Recipe.load("quick")


def test_impossible_stages_are_skipped_with_a_note(
        quadrant_task: Task, whole_recipe: Recipe, tmp_path: Path) -> None:
    class Sampled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            grid = x[:, 0].tanh().unflatten(2, (4, 2))
            return self.head(F.grid_sample(x, grid, align_corners=False).flatten(1))

    result = ew.compress(Sampled(), quadrant_task, recipe=whole_recipe, out=tmp_path / "run",
                         quiet=True)
    first, *others = result.manifest.report.stages
    assert [stage.name for stage in others] == ["quantize"]
    assert first.notes[0].startswith("pruning and recovery left out: only 0.0 % of the MACs can "
                                     "be removed; not pruned: ")
    assert "head (it is an output)" in first.notes[0]
    assert first.notes[1] == "0 of 1 early exits: the graph has no place for more"
    assert result.manifest.report.uncounted == ("grid_sampler x 1",)


def test_pruning_goes_as_far_as_it_can(trained_net: nn.Module, quadrant_task: Task,
                                       tmp_path: Path) -> None:
    recipe = Recipe(prune=ew.ChannelPruning(ratio=0.99, round_to=8))
    result = ew.compress(trained_net, quadrant_task, recipe=recipe, out=tmp_path / "run",
                         quiet=True)
    note = result.manifest.report.stages[0].notes[0]
    assert note.startswith("pruning lowered to ")
    assert note.endswith("of the MACs: no more can be removed")
    assert {layer.channels for layer in result.manifest.report.layers} == {8, 4}


def test_several_outputs_raise_before_anything_is_written(
        quadrant_task: Task, tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 4)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.layer(x.flatten(1))
            return x, logits

    with pytest.raises(ModelError, match="the goal classification does not say which is the prediction"):
        ew.compress(Twice(), quadrant_task, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"seed": -1}, UsageError, "seed must be at least 0"),
    ({"recipe": "fast", "ignore": ["head"]}, UsageError, "does not prune"),
])
def test_invalid_arguments_raise(
        change: dict[str, Any], error: type[Exception], message: str, trained_net: nn.Module,
        quadrant_task: Task, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        ew.compress(trained_net, quadrant_task, out=tmp_path / "run", quiet=True, **change)
    assert not (tmp_path / "run").exists()


def test_half_precision_weights_raise_by_name(quadrant_task: Task, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4).to(torch.bfloat16))
    with pytest.raises(ModelError, match=r"cannot be captured|the weight 1\.weight is bfloat16"):
        ew.compress(model, quadrant_task, out=tmp_path / "run", quiet=True)


def test_mismatched_classes_raise(tmp_path: Path) -> None:
    x, y = torch.randn(60, 6), torch.arange(60) % 3
    task = Task((x, y), test=(x[:20], y[:20]), classes=("a", "b", "c"))
    with pytest.raises(ModelError, match="logits of 5 classes, but the task names 3"):
        ew.compress(nn.Linear(6, 5), task, out=tmp_path / "run", quiet=True)


class Noisy(torch.utils.data.Dataset[Any]):
    """A user's dataset that draws its augmentation from the global generators."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        label = index % 3
        noise = torch.randn(6) * 0.1 + float(np.random.rand()) * 0.01
        return torch.eye(3)[label].repeat(2) + noise, label


def test_a_dataset_that_augments_at_random_gives_the_same_files_and_resumes(
        tmp_path: Path) -> None:
    short = Training(epochs=1, batch_size=16)
    recipe = Recipe(prune=ew.ChannelPruning(ratio=0.3, samples=32), recover=short,
                    quantize=ew.Quantization(calibration_samples=32))
    task = Task(Noisy(90), Noisy(30), Noisy(45))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
    one = ew.compress(model, task, recipe=recipe, out=tmp_path / "one", quiet=True)
    other = ew.compress(model, task, recipe=recipe, out=tmp_path / "other", quiet=True)
    again = ew.compress(model, task, recipe=recipe, out=tmp_path / "one", quiet=True)
    sums = [[s.sha256 for s in run.manifest.model.segments] for run in (one, other, again)]
    assert sums[0] == sums[1] == sums[2]


def test_corrected_labels_make_another_run(finished: Result, trained_net: nn.Module, quadrant_task: Task,
                                           whole_recipe: Recipe) -> None:
    parts = [next(split.batches(10_000)) for split in
             (quadrant_task.train, quadrant_task.val, quadrant_task.test)]
    labels = parts[0].targets.clone()
    labels[301] = (labels[301] + 1) % 4
    val, test = ((part.inputs[0], part.targets) for part in parts[1:])
    changed = Task((parts[0].inputs[0], labels), val, test)
    with pytest.raises(StorageError, match=r"another run \(it differs in: data\)"):
        ew.compress(trained_net, changed, ew.Budget(size="90 %", max_drop="20 %"), whole_recipe,
                    finished.bundle.parent, quiet=True)
