"""The quantize stage tells its scheme, its bits and what stays; a scheme is refused early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import edgewright as ew
from edgewright.errors import UsageError
from edgewright.pipeline import Recipe, Result
from edgewright.pipeline import _draft as draft_module
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline._run_stages import run_stages
from edgewright.pipeline._segments import to_segments
from edgewright.pipeline.stages import StageContext
from edgewright.pipeline.stages._quantize import describe_precision, scheme_note
from edgewright.pipeline.stages._scheme import scheme_before_exits
from edgewright.quantization import MixedPrecision, Precision
from edgewright.task import Task
from edgewright.training import Training

ONCE = Training(epochs=1, batch_size=32, augment=False)


def precision(weights: int | None, activations: int | None = 8) -> Precision:
    return Precision(weights=weights, activations=activations)


class Chain(nn.Module):
    """Layers one after the other, under names of the caller's choice."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = layer(x)
        return x


@pytest.mark.parametrize(("settings", "words"), [
    ({}, "static ptq, ranges by mse"),
    ({"activations": None, "range_estimator": "minmax"}, "weight-only ptq, ranges by minmax"),
    ({"method": ew.PTQ(rounding="brecq")}, "static ptq (brecq), ranges by mse"),
    ({"method": ew.QAT(quantizer="pact"), "range_estimator": "entropy"},
     "static qat (pact), ranges by entropy"),
    ({"range_estimator": ew.Percentile(99.9)}, "static ptq, ranges by percentile (99.9 %)"),
    ({"mixed": MixedPrecision(size="1 kB")}, "static ptq, ranges by mse, bits chosen by loss"),
])
def test_schemes_are_described(settings: dict[str, object], words: str) -> None:
    assert scheme_note(ew.Quantization(**settings)) == words


@pytest.mark.parametrize(("settings", "notes"), [
    ({}, ("W8A8 of 4 layers",)),
    ({"weights": 4}, ("W8A8 of 2 layers, W4A8 of 2 layers",)),
    ({"layers": {"one": precision(4), "two": None}},
     ("W8A8 of 2 layers, W4A8 of 1 layer",
      "9.28 kB of the 13.8 kB stored (67 %) stay in floating point: two (9.22 kB: excluded by "
      "the `layers` pattern 'two'); two.bias (64 B: a bias, or a vector that is added or "
      "multiplied in floating point)")),
    ({"operators": ("linear",), "activations": None},
     ("W8A32 of 1 layer",
      "19.2 kB of the 20.3 kB stored (95 %) stay in floating point: one, two, stem (19 kB: "
      "`operators` does not include convolution); one.bias, two.bias, stem.bias and 1 more (208 B: "
      "a bias, or a vector that is added or multiplied in floating point)")),
    ({"layers": {"stem": None}},
     ("W8A8 of 3 layers", "in floating point: stem (excluded by the `layers` pattern 'stem')")),
])
def test_bits_and_unquantized_layers_are_described(settings: dict[str, object], notes: tuple[str, ...],
                             trained_program: ew.Program, quadrant_task: Task) -> None:
    config = ew.Quantization(calibration_samples=32, **settings)
    after = ew.quantize(trained_program, quadrant_task, config)
    assert describe_precision(trained_program, after, config) == notes


def test_long_lists_of_unquantized_layers_are_abbreviated() -> None:
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)))
    x = torch.randn(64, 4)
    program = ew.Program.capture(net, x[:2])
    config = ew.Quantization(layers={"[0-4]": None}, calibration_samples=32)
    after = ew.quantize(program, Task((x, x.argmax(1)), test=(x[:9], x[:9].argmax(1))), config)
    assert describe_precision(program, after, config)[1] == (
        "in floating point: 0, 1, 2 and 2 more (excluded by the `layers` pattern '[0-4]')")


def test_the_notes_are_in_the_record_and_on_stderr(
        trained_net: nn.Module, quadrant_task: Task, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Recipe(quantize=ew.Quantization(layers={"one": precision(4), "two": None},
                                             calibration_samples=32))
    result = ew.compress(trained_net, quadrant_task, recipe=recipe, out=tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    notes = result.manifest.report.stages[-1].notes
    assert len(notes) == 3
    assert all(note in said for note in notes)
    page = result.report.read_text()
    assert "W8A8 of 2 layers, W4A8 of 1 layer" in page
    assert "Integers and floating point" in page


def test_the_unquantized_program_is_timed_too(finished: Result) -> None:
    manifest = finished.manifest
    assert set(manifest.report.unquantized.names()) == {"latency_ms", "mean_latency_ms"}
    assert all(m.kind == "measured" and m.value > 0 for m in manifest.report.unquantized.measurements)
    slower = manifest.report.compressed["latency_ms"] > min(manifest.report.original["latency_ms"],
                                                     manifest.report.unquantized["latency_ms"])
    assert slower or not manifest.report.slow_layers


def test_an_unchanged_original_is_exported_and_timed_once(
        trained_net: nn.Module, quadrant_task: Task, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    exported = []

    def counted(program: ew.Program, goal: Any) -> Any:
        exported.append(program.is_quantized)
        return to_segments(program, goal)

    monkeypatch.setattr(draft_module, "to_segments", counted)
    manifest = ew.compress(trained_net, quadrant_task, recipe="fast", out=tmp_path / "run",
                           quiet=True).manifest
    assert exported == [False, True]
    assert set(manifest.report.unquantized.names()) == {"latency_ms", "mean_latency_ms"}
    assert set(manifest.report.unquantized.measurements) <= set(manifest.report.original.measurements)


def test_without_quantization_no_unquantized_program_is_timed(trained_net: nn.Module, quadrant_task: Task,
                                                  tmp_path: Path) -> None:
    result = ew.compress(trained_net, quadrant_task, recipe=Recipe(), out=tmp_path / "run",
                         quiet=True)
    assert not result.manifest.report.unquantized.measurements
    assert result.manifest.report.slow_layers == ()


@pytest.mark.parametrize(("settings", "message"), [
    ({"layers": {"haed": precision(4)}}, "layers='haed' matches no layer; similar names: head"),
    ({"layers": {"exits.0": precision(4)}}, "layers='exits.0' matches no layer"),
    ({"granularity": ew.PerGroup()}, "rule "),
])
def test_an_invalid_scheme_raises_before_any_training(
        settings: dict[str, object], message: str, trained_net: nn.Module, quadrant_task: Task,
        tmp_path: Path) -> None:
    recipe = Recipe(recover=ONCE, quantize=ew.Quantization(**settings))
    with pytest.raises(UsageError, match=message):
        ew.compress(trained_net, quadrant_task, recipe=recipe, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_patterns_match_the_future_names_of_heads() -> None:
    """Not by a name that begins with exits: the model may have an ``exits`` of its own."""
    def at_first(first: str, *patterns: str) -> set[str]:
        layers = {first: nn.Linear(4, 8), "relu": nn.ReLU(), "last": nn.Linear(8, 3)}
        program = ew.Program.capture(Chain(layers), torch.zeros(1, 4))
        recipe = Recipe(exits=ew.EarlyExits(places=1), quantize=ew.Quantization(
            layers={pattern: precision(4) for pattern in patterns}))
        scheme = scheme_before_exits(recipe, program)
        assert scheme is not None
        return set(scheme.layers)

    assert at_first("stem", "exits", "exits.0", "last", "exits.1", "exist.0") == {
        "last", "exits.1", "exist.0"}
    assert at_first("exits", "exits", "exits_1", "exits.0", "last") == {"exits", "exits.0", "last"}


def test_bits_may_be_set_for_layers_that_a_stage_adds_or_removes(
        trained_net: nn.Module, quadrant_task: Task, tmp_path: Path) -> None:
    recipe = Recipe(blocks=ew.BlockPruning(count=1, samples=40), recover=ONCE,
                    exits=ew.EarlyExits(places=1, training=ONCE, keep="if_taken"),
                    quantize=ew.Quantization(layers={"one": precision(4), "exits": precision(4)},
                                             calibration_samples=32))
    result = ew.compress(trained_net, quadrant_task, recipe=recipe, out=tmp_path / "run",
                         quiet=True)
    bits = {layer.name: layer.weight_bits for layer in result.manifest.report.layers if layer.channels}
    assert "one" not in bits
    assert bits["exits.0"] == 4
    assert bits["head"] == 8


def test_recipes_with_every_kind_of_scheme_round_trip_through_yaml(tmp_path: Path) -> None:
    recipe = Recipe(quantize=ew.Quantization(
        weights=4, layers={"stem": None, "block*": precision(2, 4), "head": precision(8, None)},
        mixed=MixedPrecision(size="20 kB", bit_ops=0.5, weights=(8, 4, None)),
        first_last_bits=None, operators=("linear",), activations="dynamic",
        granularity=ew.PerGroup(64), range_estimator=ew.Percentile(99.9),
        method=ew.QAT(quantizer="lsq+", training=ONCE)))
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    assert Recipe.load(file) == recipe
    scheme = Recipe.load(file).quantize
    assert scheme is not None
    assert list(scheme.layers) == ["stem", "block*", "head"]


@pytest.mark.parametrize(("settings", "written"), [
    ({}, {"activations": 8, "granularity": "per_channel", "target": "onnxruntime",
          "range_estimator": "mse"}),
    ({"granularity": ew.PerGroup(64), "activations": None},
     {"granularity": {"per_group": 64}, "activations": None}),
    ({"activations": ew.StaticRange(4, symmetric=True)},
     {"activations": {"static": {"bits": 4, "symmetric": True}}}),
    ({"range_estimator": ew.Percentile(99.9)}, {"range_estimator": {"percentile": 99.9}}),
    ({"method": ew.PTQ(rounding=ew.BRECQ(500))}, {"method": {"ptq": {
        "equalize": False, "correct_bias": False, "rounding": {"brecq": 500}}}}),
])
def test_settings_are_written_by_name(settings: dict[str, object],
                                      written: dict[str, object]) -> None:
    recipe = Recipe(quantize=ew.Quantization(**settings))
    found = yaml.safe_load(recipe.to_yaml())["quantize"]
    assert {name: found[name] for name in written} == written
    assert Recipe.model_validate(yaml.safe_load(recipe.to_yaml())) == recipe


@pytest.mark.parametrize("name", ["fast", "balanced", "thorough"])
def test_builtin_recipes_round_trip_through_yaml(name: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(Recipe.by_name(name).to_yaml())
    assert Recipe.load(file) == Recipe.by_name(name)
    assert Recipe.by_name(name).quantize is not None


@pytest.mark.parametrize(("method", "note"), [
    (ew.PTQ(equalize=True), "equalize left out: accuracy "),
    (ew.QAT(training=ew.Training(epochs=1, augment=False)),
     "training with quantization left out: accuracy ")])
def test_what_lowers_the_accuracy_is_undone(
        trained_program: ew.Program, quadrant_task: Task, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, method: ew.PTQ | ew.QAT, note: str) -> None:
    def spoilt(program: ew.Program, task: Task, config: ew.Quantization,
               **settings: Any) -> ew.Program:
        if config.method != ew.PTQ():  # as if it had made the weights worse
            program = program.with_state({name: value * 0 if value.is_floating_point() else value
                                          for name, value in program.state_dict().items()})
        return ew.quantize(program, task, config.replace(method="ptq"),
                           seed=settings["seed"])

    monkeypatch.setattr("edgewright.pipeline.stages._quantize.quantize", spoilt)
    recipe = Recipe(quantize=ew.Quantization(method=method, calibration_samples=64))
    results = run_stages(StageContext(trained_program, quadrant_task, recipe, 0,
                                      RunDirectory.open(tmp_path, {}), RunLog(quiet=True)))
    record = results.records[-1]
    assert record.figures["accuracy"] > 0.8
    assert any(note in text for text in record.notes)
