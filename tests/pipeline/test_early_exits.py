"""Runs with early exits for goals other than a classification, to files whose samples leave early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.core import Budget
from edgewright.errors import UsageError
from edgewright.exits import (
    EarlyExits,
    ExitCalibration,
    add_exits,
    find_exit_places,
    remove_exits,
)
from edgewright.goals import Categorical, Segmentation
from edgewright.pipeline import Recipe, Result
from edgewright.pipeline._evaluate import numpy_batches
from edgewright.pipeline._file_metric import FileMetric
from edgewright.pipeline.stages._exits import Exits
from edgewright.runtime import OnnxEngine, Session, evaluate
from edgewright.runtime.decoding import Mask
from edgewright.training import Training, evaluate_module

SHORT = Training(epochs=3, batch_size=32, lr=0.005, optimizer="adamw", augment=False)
DROP = 0.05
UNCLEAR = 255


@pytest.fixture(autouse=True, scope="module")
def few_runs() -> Iterator[None]:
    """Latencies are measured from a few runs, because nothing here is about them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgewright.pipeline._evaluate._ROUNDS", 5)
        patch.setattr("edgewright.pipeline._evaluate._WARMUP", 1)
        patch.setattr("edgewright.pipeline._assemble.find_slow_layers", lambda *_: ())
        yield


def splits(x: Tensor, y: Tensor, goal: Any) -> ew.Task:
    return ew.Task((x[:200], y[:200]), (x[200:300], y[200:300]), (x[300:], y[300:]), goal=goal)


def drawn_squares() -> tuple[Tensor, Tensor]:
    """Images (400, 2, 12, 12) with a square, more or less noisy, and its pixels; one row is unclear."""
    random = torch.Generator().manual_seed(0)
    masks = torch.zeros(400, 12, 12, dtype=torch.long)
    for mask, top, left in zip(masks, *torch.randint(1, 7, (2, 400), generator=random), strict=True):
        mask[top:top + 5, left:left + 5] = 1
    shown = (masks[:, None] == torch.arange(2)[None, :, None, None]).float()
    noise = 1.5 * torch.rand(400, 1, 1, 1, generator=random)
    images = shown + noise * torch.randn(shown.shape, generator=random)
    masks[:, 0] = UNCLEAR
    return images, masks


def convolution(channels_in: int, channels: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels),
            nn.ReLU()]


def segmenter() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*convolution(2, 8), *convolution(8, 16, 2), *convolution(16, 16),
                         *convolution(16, 16), nn.Conv2d(16, 2, 1), nn.Upsample(scale_factor=2))


def drawn_answers(questions: int) -> tuple[Tensor, Tensor]:
    """Vectors (400, 16), and whether sums of four of them are positive, (400, questions)."""
    x = torch.randn(400, 16, generator=torch.Generator().manual_seed(1))
    return x, (x[:, :4 * questions].reshape(400, questions, 4).sum(2) > 0).long()


def perceptron(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    hidden = [layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), *hidden, nn.Linear(64, outputs))


def run(model: nn.Module, task: ew.Task, out: Path, **settings: Any) -> Result:
    trained = ew.fit(ew.Program.capture(model, task.train.example(2)), task, SHORT)
    recipe = Recipe(name="exits", distillation=ew.Distillation(self_weight=0.3), **settings)
    return ew.compress(trained, task, recipe=recipe, out=out, quiet=True)


def exits(places: int, **calibration: Any) -> EarlyExits:
    return EarlyExits(places=places, training=SHORT, keep="if_taken",
                      calibration=ExitCalibration(max_drop=DROP, **calibration))


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, ew.Task]:
    """Per-pixel exits, quantized."""
    task = splits(*drawn_squares(), Segmentation(ignore_index=UNCLEAR))
    out = tmp_path_factory.mktemp("segmentation") / "run"
    return run(segmenter(), task, out, exits=exits(2, points={"fast": 0.2}), quantize=ew.Quantization(
        method="ptq", calibration_samples=64)), task


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Result, ew.Task]]:
    """Answers to one or to three questions."""
    known: dict[str, tuple[Result, ew.Task]] = {}

    def make(goal: str) -> tuple[Result, ew.Task]:
        if goal not in known:
            x, y = drawn_answers(3 if goal == "multi-label" else 1)
            task = splits(x, y, goal)
            out = tmp_path_factory.mktemp(goal) / "run"
            known[goal] = run(perceptron(y.shape[1]), task, out, exits=exits(2)), task
        return known[goal]
    return make


def inputs_of(task: ew.Task) -> np.ndarray:
    return next(task.test.batches(1000)).inputs[0].numpy()


def quality(task: ew.Task, output: Any) -> float:
    targets = next(task.test.batches(1000)).targets
    found = torch.from_numpy(np.asarray(output))
    return float(task.goal.exit_quality(found, found, targets).mean())


def check_session(result: Result, task: ew.Task) -> Session:
    """Samples leave at several exits by the goal's confidence, alone as in a batch."""
    session, inputs = ew.load(result.bundle), inputs_of(task)
    model = result.manifest.model
    assert [segment.score for segment in model.segments] == ["output_1", "output_1", None]
    found, every = session(inputs), session.run_all_exits(inputs)
    assert len(set(found.exit.tolist())) >= 2
    assert (found.exit < 2).mean() > 0.2
    scores = np.stack([one.scores for one in every[:-1] if one.scores is not None])
    for one, score in zip(every, scores, strict=False):
        expected = task.goal.exit_confidence(torch.from_numpy(one.outputs[0]))
        np.testing.assert_allclose(score, expected.numpy(), atol=1e-5)
    left = scores >= np.array(model.points[0].thresholds, np.float64)[:, None]
    np.testing.assert_array_equal(found.exit, np.where(left[0], 0, np.where(left[1], 1, 2)))
    taken = np.stack([one.outputs[0] for one in every])[found.exit, np.arange(len(inputs))]
    np.testing.assert_array_equal(found.output, taken)
    alone = [session(inputs[[row]]) for row in range(20)]
    assert [int(one.exit[0]) for one in alone] == found.exit[:20].tolist()
    return session


def check_report(result: Result, task: ew.Task, measure: str) -> None:
    """The figures are those of the file, and the page names what leaving early may cost."""
    report = result.manifest.report
    assert report.exit_measure == measure
    session = ew.load(result.bundle)
    found = quality(task, session(inputs_of(task)).output)
    assert report.compressed[measure] == pytest.approx(found)
    assert report.curve[0].accuracy == pytest.approx(
        quality(task, session.run_all_exits(inputs_of(task))[-1].outputs[0]))
    assert report.simulated[measure] == pytest.approx(found, abs=0.01)
    assert report.parity is not None
    assert report.parity.agreement > 0.99
    assert report.curve[0].accuracy - report.compressed[measure] < 2 * DROP
    page = result.report.read_text()
    assert f"{'Accuracy' if measure == 'accuracy' else measure} against mean" in page


def test_pixels_leave_early(segmentation: tuple[Result, ew.Task]) -> None:
    result, task = segmentation
    session = check_session(result, task)
    check_report(result, task, "pixel_accuracy")
    assert result.program.is_quantized
    masks = session.predict(inputs_of(task))
    assert all(isinstance(mask, Mask) and mask.indices.shape == (12, 12) for mask in masks)
    assert set(result.manifest.model.points[1].figures.names()) >= {"miou", "macs"}
    primary = evaluate_module(remove_exits(result.program).module(), task.val, task.goal)[0].value
    found = evaluate(session, numpy_batches(task.val), {"miou": FileMetric(
        task.goal, task.goal.metrics[0], session.model)})
    assert primary - found.metrics["miou"] <= DROP + 0.005  # what quantized kernels round
    session.point = "fast"
    fast = session(inputs_of(task))
    assert fast.exit.mean() <= ew.load(result.bundle)(inputs_of(task)).exit.mean()
    assert session.drift() is not None


def test_pixels_leave_early_in_one_file(segmentation: tuple[Result, ew.Task], tmp_path: Path) -> None:
    result, task = segmentation
    thresholds = result.manifest.model.points[0].thresholds
    file = ew.export(result.program, "onnx", tmp_path / "model.onnx", task=task, thresholds=thresholds)
    engine, session, inputs = OnnxEngine(file.read_bytes()), ew.load(result.bundle), inputs_of(task)
    expected = session(inputs)
    for row in range(30):
        output, taken = engine.run((inputs[[row]],))
        assert taken.tolist() == [expected.exit[row]]
        np.testing.assert_allclose(output[0], expected.output[row], rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="temperatures divide logits of classes"):
        ew.export(result.program, "onnx", tmp_path / "no.onnx", task=task, thresholds=thresholds,
                  temperatures=(1.0, 1.0))


def test_a_bundle_of_pixels_needs_the_goal(segmentation: tuple[Result, ew.Task], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has 2 early exits, whose output for one sample has the "
                                         r"shape \(1, 2, 12, 12\); give the task"):
        ew.make_bundle(segmentation[0].program, tmp_path / "model.edge")


@pytest.mark.parametrize("goal", ["binary", "multi-label"])
def test_answers_leave_early(answers: Callable[[str], tuple[Result, ew.Task]], goal: str) -> None:
    result, task = answers(goal)
    session = check_session(result, task)
    check_report(result, task, "accuracy")
    first = session.predict(inputs_of(task))[0]
    assert len(first) == (3 if goal == "multi-label" else 1)
    heads = [place.head for place in find_exit_places(remove_exits(result.program))]
    assert {head.kind for head in heads} == {"pooled"}


@pytest.mark.parametrize(("goal", "reason"), [
    ("regression", "a value does not tell how wrong it is"),
    ("embedding", "a direction does not tell how wrong it is")])
def test_goals_without_a_confidence_are_refused_before_any_work(
        goal: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = drawn_answers(1)
    task = splits(x, y[:, 0] if goal == "embedding" else y.float(), goal)
    program = ew.Program.capture(perceptron(2 if goal == "embedding" else 1), x[:2])
    monkeypatch.setattr("edgewright.exits._attach.train", None)
    with pytest.raises(UsageError, match=f"the goal {goal} cannot have early exits: {reason}"):
        add_exits(program, task, exits(1))
    adjusted = Exits().adjust_to(Recipe(exits=exits(1)), program, Budget(), task.goal)
    assert adjusted.recipe.exits is None
    assert adjusted.note == f"exits left out: the goal {goal} cannot have them, {reason}"


def test_a_policy_for_classes_is_refused_for_pixels() -> None:
    task = splits(*drawn_squares(), "segmentation")
    program = ew.Program.capture(segmenter(), task.train.example(2))
    with pytest.raises(UsageError, match="the exit policy 'entropy' needs one class per sample"):
        add_exits(program, task, exits(1, policy="entropy"))
    with pytest.raises(UsageError, match="the exit policy 'entropy' needs one class per sample"):
        Exits().adjust_to(Recipe(exits=exits(1, policy="entropy")), program, Budget(), task.goal)
    assert [place.head.kind for place in find_exit_places(program)] == ["dense"] * 4


def test_a_goal_of_ones_own_leaves_early_by_its_kind() -> None:
    """Its targets are its own, so leaving costs the decisions that differ from the full network's."""
    x, _ = drawn_answers(1)
    y = x[:, :3].argmax(1)
    goal = ew.CustomGoal(nn.functional.cross_entropy, {"count": _Count()}, kinds={"": Categorical()})
    task = splits(x, y, goal)
    staged = add_exits(ew.Program.capture(perceptron(3), x[:2]), task,
                       EarlyExits(places=1, training=None))
    early, full = staged.run(x)
    same = (early.argmax(1) == full.argmax(1)).float()
    torch.testing.assert_close(goal.exit_quality(early, full, y), same)


class _Count:
    """A metric that is never asked."""

    higher_is_better = True

    def update(self, outputs: Any, targets: Any) -> None:
        """Add nothing."""

    def compute(self) -> float:
        """Zero."""
        return 0.0

    def reset(self) -> None:
        """Forget nothing."""
