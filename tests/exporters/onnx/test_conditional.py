"""Conditional files, compared with their segments run one by one on the same runtime."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import BundleError, ModelError, ParityError, UsageError
from edgewright.exits import EarlyExits, add_exits
from edgewright.exporters import _export, export, to_conditional_onnx, to_onnx
from edgewright.exporters.onnx import _conditional
from edgewright.exporters.onnx._conditional import replace_thresholds
from edgewright.exporters.onnx._conditional_engine import EveryExitEngine
from edgewright.program import Program, split_at_exits
from edgewright.quantization import quantize
from edgewright.runtime import OnnxEngine
from edgewright.task import Task

NEVER, ALWAYS = 2.0, 0.0


@dataclass(frozen=True)
class Leaving:
    """A program with early exits, the files of its segments and the one file of them."""

    program: Program
    segments: tuple[bytes, ...]
    file: bytes


def translate(program: Program) -> Any:
    """Both forms, of one translation of each segment."""
    segments = tuple(to_onnx(part) for part in split_at_exits(program))
    pending = iter(segments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_conditional, "to_onnx", lambda part: next(pending))
        file = to_conditional_onnx(program, (0.5,) * program.exits,
                                   temperatures=(0.7, 1.0, 1.9)[:program.exits])
    return Leaving(program, segments, file)


@pytest.fixture(scope="module")
def leaving(blocks: Program, images: Tensor, as_task: Callable[[Tensor], Task]) -> Any:
    """The network with one, two or three early exits, in floats or quantized."""
    @cache
    def make(exits: int, bits: int) -> Leaving:
        program = add_exits(blocks, as_task(images), EarlyExits(places=exits, training=None),
                            seed=exits)
        return translate(program if bits == 32 else quantize(program, as_task(images)))

    return make


def sureness(logits: Any, temperature: float = 1.0) -> Any:
    wide = logits.astype(np.float64)
    return 1 / np.exp((wide - wide.max()) / temperature).sum()


def staged(engines: Any, sample: Any, thresholds: Any, temperatures: Any) -> tuple[Any, ...]:
    """The logits and the exit of one sample, segment by segment."""
    current = sample
    for index, (threshold, temperature) in enumerate(zip(thresholds, temperatures, strict=True)):
        logits, current = engines[index].run((current,))
        if sureness(logits, temperature) >= threshold:
            return logits, index
    return engines[-1].run((current,))[0], len(thresholds)


def between(engines: Any, samples: Any, temperatures: Any) -> Any:
    """Thresholds at which some samples leave and some stay, none of them at a sample's own."""
    found = []
    for engine, temperature in zip(engines[:-1], temperatures, strict=True):
        results = [engine.run((sample,)) for sample in samples]
        sure = sorted(sureness(logits, temperature) for logits, _ in results)
        middle = 2 * len(sure) // 3
        found.append((sure[middle - 1] + sure[middle]) / 2)
        samples = [features for logits, features in results
                   if sureness(logits, temperature) < found[-1]]
    return tuple(found)


def nested_graphs(graph: Any) -> list[Any]:
    """A graph and all in its branches, then-branches first."""
    inner = [attribute.g for node in graph.node
             for attribute in sorted(node.attribute, key=lambda a: a.name, reverse=True)
             if attribute.HasField("g")]
    return [graph, *(each for branch in inner for each in nested_graphs(branch))]


@pytest.mark.parametrize("exits", [1, 2, 3])
@pytest.mark.parametrize("bits", [32, 8])
def test_conditional_file_matches_the_segments(leaving: Any, images: Tensor, exits: int,
                                               bits: int) -> None:
    made, temperatures = leaving(exits, bits), (0.7, 1.0, 1.9)[:exits]
    segments = [OnnxEngine(segment) for segment in made.segments]
    samples = list(images.numpy()[:, np.newaxis])
    thresholds = between(segments, samples, temperatures)
    engine = OnnxEngine(replace_thresholds(made.file, thresholds))
    taken = []
    for sample in samples:
        logits, left = engine.run((sample,))
        want, expected = staged(segments, sample, thresholds, temperatures)
        assert (left.dtype, left.shape, left.item()) == (np.dtype(np.int64), (1,), expected)
        np.testing.assert_array_equal(logits, want)
        taken.append(expected)
    assert set(taken) == set(range(exits + 1))


def test_file_is_valid_and_takes_one_sample(leaving: Any, images: Tensor) -> None:
    content = leaving(3, 8).file
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert onnx.printer.to_text(model.graph).splitlines()[0] == (
        "main_graph (float[1,3,8,8] x) => (float[1,3] output_0, int64[1] exit) ")
    assert [graph.name for graph in nested_graphs(model.graph)] == [
        "main_graph", "exit_0", "after_exit_0", "exit_1", "after_exit_1", "exit_2", "after_exit_2"]
    with pytest.raises(BundleError, match="Got: 2 Expected: 1"):
        OnnxEngine(content).run((images[:2].numpy(),))


def test_names_are_unique_and_segments_own_their_weights(leaving: Any) -> None:
    made = leaving(2, 8)
    graphs = nested_graphs(onnx.load_from_string(made.file).graph)
    names = [name for graph in graphs for name in (
        *(value.name for value in graph.initializer),
        *(name for node in graph.node for name in node.output))]
    assert len(names) == len(set(names))
    parts = [onnx.load_from_string(segment).graph for segment in made.segments]
    for graph, part, rules in zip((graphs[0], graphs[2], graphs[4]), parts, (2, 2, 0), strict=True):
        stored = [value.raw_data for value in graph.initializer if "." not in value.name]
        assert stored == [value.raw_data for value in part.initializer]
        assert len(graph.initializer) == len(stored) + rules


@pytest.mark.parametrize("bits", [32, 8])
def test_runtime_fuses_branches_like_segments(leaving: Any, tmp_path: Path, bits: int) -> Any:
    def optimized(content: Any) -> Any:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_double_qdq_remover", "1")
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        model = onnx.load(tmp_path / "optimized.onnx")
        return [Counter(node.op_type for node in graph.node) for graph in nested_graphs(model.graph)]

    made = leaving(2, bits)
    first, _, second, _, last = optimized(made.file)
    apart = [optimized(segment)[0] for segment in made.segments]
    rule = Counter(["Cast", "ReduceMax", "Sub", "Exp", "ReduceSum", "Reciprocal",
                    "GreaterOrEqual", "If"])
    scale = Counter(["Div"])   # by a temperature of one it is no work
    assert [first, second, last] == [apart[0] + rule + scale, apart[1] + rule, apart[2]]
    assert last["QGemm"] == (2 if bits == 8 else 0)


def test_runtime_prints_no_warnings(leaving: Any, images: Tensor,
                                    capfd: pytest.CaptureFixture[str]) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 2
    session = ort.InferenceSession(leaving(3, 8).file, options,
                                   providers=["CPUExecutionProvider"])
    (left,) = session.run(["exit"], {"x": images[:1].numpy()})
    assert 0 <= left.item() <= 3
    assert capfd.readouterr().err == ""


class Given(nn.Module):
    """Returns what it is given as the logits of an early exit, and marked ones at the end."""

    def forward(self, x: Tensor) -> Any:
        return x * 1, x.relu() + 100


def early(module: nn.Module, *inputs: Any) -> Any:
    """A program whose outputs are the logits of one early exit and of the last."""
    captured = Program.capture(module, inputs)
    return Program(captured.graph_module, captured.example_inputs, exits=1)


@pytest.fixture(scope="module")
def given_file() -> Any:
    return to_conditional_onnx(early(Given(), torch.zeros(1, 3)), (0.5,))


@pytest.mark.parametrize(("logits", "threshold", "left"), [
    ((0.0, 0.0, 0.0), 1 / 3, 0),
    ((0.0, 0.0, 0.0), np.nextafter(1 / 3, 1), 1),
    ((0.0, 0.0, 0.0), np.float64(np.nextafter(np.float32(1 / 3), np.float32(1))), 1),
    ((3e38, -3e38, 0.0), 1.0, 0),
    ((3e38, -3e38, 0.0), NEVER, 1),
    ((math.nan, 0.0, 0.0), ALWAYS, 1),
    ((0.0, math.nan, 9.0), ALWAYS, 1),
    ((math.inf, 0.0, 0.0), ALWAYS, 1),
    ((-math.inf, -math.inf, 0.0), 1.0, 0),
    ((-math.inf, -math.inf, -math.inf), ALWAYS, 1),
])
def test_condition_uses_double_precision_and_nan_never_exits(logits: tuple[Any, ...] | tuple[float, ...], threshold: Any, left: int,
                                                                     given_file: Any) -> None:
    sample = np.array([logits], np.float32)
    with np.errstate(invalid="ignore"):
        assert (sureness(sample) >= threshold) == (left == 0)
    engine = OnnxEngine(replace_thresholds(given_file, (threshold,)))
    assert engine.run((sample,))[1].tolist() == [left]


def test_several_inputs_keep_their_names_and_order() -> None:
    class Two(nn.Module):
        def forward(self, whole: Tensor, parts: dict[str, Tensor]) -> Any:
            joined = whole + parts["a"] - parts["b"]
            features = joined.relu()
            return features * 2, features + 5

    file = to_conditional_onnx(
        early(Two(), torch.zeros(1, 2), {"a": torch.zeros(1, 2), "b": torch.zeros(1, 1)}), (0.9,))
    inputs = onnx.load_from_string(file).graph.input
    assert [value.name for value in inputs] == ["whole", "parts_a", "parts_b"]
    assert [[size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in inputs] == [[1, 2], [1, 2], [1, 1]]
    arrays = [np.array(array, np.float32) for array in ([[4.0, 1.0]], [[3.0, 2.0]], [[1.0]])]
    assert [array.tolist() for array in OnnxEngine(file).run(tuple(arrays))] == [[[12.0, 4.0]], [0]]
    arrays[0][:] = 1
    assert [array.tolist() for array in OnnxEngine(file).run(tuple(arrays))] == [[[8.0, 7.0]], [1]]


def test_thresholds_can_be_replaced(leaving: Any) -> None:
    file = leaving(2, 32).file
    other = replace_thresholds(file, (0.7, NEVER))
    assert other != file
    assert replace_thresholds(other, (0.5, 0.5)) == file
    with pytest.raises(UsageError, match="1 thresholds were given for 2 early exits"):
        replace_thresholds(file, (0.7,))


@pytest.mark.parametrize("bits", [32, 8])
def test_every_exit_can_be_taken(leaving: Any, images: Tensor, bits: int) -> None:
    program = leaving(2, bits).program
    engine = EveryExitEngine(leaving(2, bits).file, 2)
    have = engine.run((images[:3].numpy(),))
    want = [logits.numpy() for logits in program.run(images[:3])]
    for expected, found in zip(want, have, strict=True):
        assert found.shape == (3, 3)
        assert np.linalg.norm(expected - found) < (0.02 if bits == 8 else 1e-5) * np.linalg.norm(
            expected)
    assert engine.runtime.startswith("onnxruntime 1.")


def test_export_writes_the_conditional_file(leaving: Any, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> Any:
    made, asked = leaving(2, 8), []

    def known(program: Program, thresholds: Any, *, temperatures: Any, confidence: Any) -> Any:
        asked.append((program, thresholds, temperatures, confidence))
        return made.file

    monkeypatch.setattr(_export, "to_conditional_onnx", known)
    path = export(made.program, "onnx", str(tmp_path / "model.onnx"), thresholds=(0.5, 0.5),
                  temperatures=(0.7, 1.0))
    assert path.read_bytes() == made.file
    assert asked == [(made.program, (0.5, 0.5), (0.7, 1.0), None)]
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("branch", [0, 1, 2])
def test_export_runs_every_branch(leaving: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                  branch: int) -> None:
    made = leaving(2, 32)
    model = onnx.load_from_string(made.file)
    graph = nested_graphs(model.graph)[2 * branch]
    bias = next(value for value in graph.initializer if value.dims == [3])
    values = onnx.numpy_helper.to_array(bias) + np.float32(1)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    altered = model.SerializeToString()
    monkeypatch.setattr(_export, "to_conditional_onnx", lambda *args, **kwargs: altered)
    with pytest.raises(ParityError, match="does not match the program: relative error"):
        export(made.program, "onnx", tmp_path / "model.onnx", thresholds=(ALWAYS, ALWAYS))
    assert list(tmp_path.iterdir()) == []


def test_export_checks_the_exits_against_the_thresholds(leaving: Any, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    made = leaving(2, 32)
    model = onnx.load_from_string(made.file)
    reach = next(node for node in model.graph.node if node.op_type == "GreaterOrEqual")
    reach.op_type = "LessOrEqual"
    altered = model.SerializeToString()
    monkeypatch.setattr(_export, "to_conditional_onnx", lambda *args, **kwargs: altered)
    with pytest.raises(ParityError, match=r"takes the exits \[1\], expected 0; "
                                          "no file was written; please report the model"):
        export(made.program, "onnx", tmp_path / "model.onnx", thresholds=(0.5, 0.5))
    assert list(tmp_path.iterdir()) == []


def test_programs_without_exits_are_rejected(blocks: Program) -> None:
    with pytest.raises(UsageError, match="the program has no early exits; add exits before "
                                         "exporting with thresholds, or export without"):
        to_conditional_onnx(blocks, ())


@pytest.mark.parametrize(("thresholds", "temperatures", "message"), [
    ((0.5,), None, "1 thresholds were given for 2 early exits; pass one per early exit, none for the "
                   "last exit"),
    ((0.5, 0.5, 0.5), None, "3 thresholds were given for 2 early exits"),
    ((0.5, 0.5), (), "0 temperatures were given for 2 early exits"),
    ((0.5, math.nan), None, r"thresholds must be finite numbers, got \[0.5, nan\]"),
    ((0.5, 0.5), (1.0, math.inf), r"temperatures must be finite numbers, got \[1.0, inf\]"),
    ((0.5, 0.5), (1.0, 0.0), r"temperatures must be above 0, got \[1.0, 0.0\]"),
])
def test_values_that_do_not_fit_the_exits_are_rejected(leaving: Any, thresholds: tuple[Any, ...] | tuple[float, ...], temperatures: tuple[Any, ...] | tuple[float, ...] | None, message: str,
                                                      tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        to_conditional_onnx(leaving(2, 32).program, thresholds, temperatures=temperatures)
    with pytest.raises(UsageError, match=message):
        export(leaving(2, 32).program, "onnx", tmp_path / "model.onnx", thresholds=thresholds,
               temperatures=temperatures)
    assert list(tmp_path.iterdir()) == []


def test_exits_that_are_not_classifiers_are_rejected() -> None:
    program = early(Given(), torch.zeros(1, 3, 5))
    with pytest.raises(ModelError, match=r"the exits return \(1, 3, 5\) in float32, \(1, 3, 5\) in "
                                         r"float32 for one sample, expected logits \(1, classes\) "
                                         "of the same type from all; for other outputs pass the task"):
        to_conditional_onnx(program, (0.5,))


def test_exits_with_different_classes_or_types_are_rejected() -> None:
    class Uneven(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x[:, 1:], x.relu().double()

    program = early(Uneven(), torch.zeros(1, 3))
    with pytest.raises(ModelError, match=r"return \(1, 2\) in float32, \(1, 3\) in float64 for"):
        to_conditional_onnx(program, (0.5,))


@pytest.mark.parametrize("target", ["executorch", "litert"])
def test_other_targets_reject_thresholds(leaving: Any, tmp_path: Path, target: Any) -> None:
    with pytest.raises(UsageError, match=f"thresholds were given for the target '{target}'; only "
                                         "'onnx' and 'c' support early exits"):
        export(leaving(2, 32).program, target, tmp_path / "model", thresholds=(0.5,))


def test_temperatures_need_thresholds(leaving: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="temperatures were given without thresholds; pass both"):
        export(leaving(2, 32).program, "onnx", tmp_path / "model.onnx", temperatures=(1.0,))
