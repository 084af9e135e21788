"""Distillation for every kind of prediction: values, answers, pixels, embeddings, several heads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F

from edgewright.distill import (
    LOGIT_LOSSES,
    Distillation,
    DistillationLoss,
    ModuleTeacher,
    SelfDistillationLoss,
    cache_teacher,
    fit,
    make_objective,
)
from edgewright.errors import DataError, ModelError, UsageError
from edgewright.goals import (
    Bernoulli,
    Binary,
    Categorical,
    Classification,
    CustomGoal,
    Embedding,
    Goal,
    MultiLabel,
    MultiTask,
    Reconstruction,
    Regression,
    Segmentation,
)
from edgewright.program import Program
from edgewright.task import Batch, Task
from edgewright.training import (
    ConstrainedObjective,
    GoalLoss,
    StepHook,
    Training,
    train,
)

HEADS = MultiTask({"age": Regression(unit="years"), "sex": Classification()})


class Pixels(nn.Module):
    """A dict of logits per pixel, and an auxiliary output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(2, width, 3, padding=1), nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x).relu()
        return {"out": self.head(features), "aux": features.mean((2, 3))}


class Heads(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.age, self.sex = nn.Linear(4, width), nn.Linear(width, 1), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x).relu()
        return {"age": 20 * self.age(features) + 40, "sex": self.sex(features)}


def mlp(width: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, outputs))


def make(job: str, width: int) -> nn.Module:
    models = {"pixels": lambda: Pixels(width), "heads": lambda: Heads(width)}
    sizes = {"regression": 1, "binary": 1, "labels": 3, "embedding": 5}
    return models[job]() if job in models else mlp(width, sizes[job])


def inputs_of(job: str, count: int) -> Tensor:
    return torch.randn(count, *((2, 6, 6) if job == "pixels" else (4,)))


def targets_of(job: str, count: int) -> Any:
    classes, values = torch.arange(count) % 2, 30 * torch.rand(count, 1)
    return {"regression": values, "binary": classes.float(),
            "labels": torch.randint(0, 2, (count, 3)).float(),
            "pixels": torch.randint(0, 3, (count, 6, 6)), "embedding": classes,
            "heads": {"age": values, "sex": classes}}[job]


GOALS: dict[str, Goal] = {
    "regression": Regression(), "binary": Binary(), "labels": MultiLabel(),
    "pixels": Segmentation(output="out"), "embedding": Embedding(), "heads": HEADS}
every_goal = pytest.mark.parametrize("job", GOALS)


def task_of(job: str) -> Task:
    train, val, test = ((inputs_of(job, count), targets_of(job, count)) for count in (65, 24, 24))
    return Task(train, val, test, goal=GOALS[job])


def distance(goal: Goal, teacher: Program, student: Program, x: Tensor) -> float:
    """The distillation loss on these inputs."""
    objective = DistillationLoss(ModuleTeacher(teacher), Distillation(alpha=1.0), goal=goal)
    return float(objective.loss((student.run(x),), Batch((x,), None, torch.arange(len(x)))))


@every_goal
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_training_lowers_the_loss(job: str, alpha: float) -> None:
    task = task_of(job)
    module = Program.capture(make(job, 8), task.train.example(2)).module()
    objective = make_objective(make(job, 16), task.goal, Distillation(alpha=alpha, temperature=2.0))
    batch = next(task.train.batches(65))
    before = float(objective.loss((module(*batch.inputs),), batch).detach())
    train(module, task, Training(epochs=20, batch_size=16, lr=0.01, optimizer="adamw",
                                 augment=False, compute="cpu"),
          ConstrainedObjective(objective, (StepHook(),)))  # keeps no weights of before the training
    after = float(objective.loss((module(*batch.inputs),), batch).detach())
    assert after < (0.8 if alpha == 1 else 1) * before


@every_goal
@pytest.mark.parametrize("features", ["hints", "attention"])
def test_features_are_learned_whatever_the_outputs_are(job: str, features: Any) -> None:
    task = task_of(job)
    teacher, student = (Program.capture(make(job, width), task.train.example(2)) for width in (16, 8))
    found = fit(student, task, Training(epochs=1, batch_size=16, compute="cpu"), teacher,
                distillation=Distillation(features=features, alpha=1.0))
    assert found.state_dict().keys() == student.state_dict().keys()
    assert type(found.run(*task.train.example(2))) is type(student.run(*task.train.example(2)))


@every_goal
@pytest.mark.parametrize("logits", LOGIT_LOSSES)
def test_every_loss_is_zero_for_equal_outputs_and_has_a_gradient_otherwise(saying: Any, job: str,
                                                                           logits: Any) -> None:
    model, x = make(job, 4), inputs_of(job, 6)
    goal, batch = GOALS[job], Batch((x,), targets_of(job, 6), torch.arange(6))
    settings = Distillation(logits=logits, alpha=1.0)
    same = DistillationLoss(saying(model(x)), settings, goal=goal).loss((model(x),), batch)
    assert float(same.detach()) == pytest.approx(0, abs=1e-5)
    other = DistillationLoss(saying(make(job, 4)(x)), settings, goal=goal).loss((model(x),), batch)
    other.backward()
    assert float(other.detach()) > 0
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(one).all()) for one in gradients)
    assert any(bool(one.any()) for one in gradients)


def slow_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(p || q) for rows of logits, by the definition."""
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    return temperature**2 * (p * (p.log() - q.log())).sum(-1)


def gradients(loss: Any, outputs: Tensor) -> tuple[Tensor, Tensor]:
    outputs = outputs.clone().requires_grad_()
    value = loss(outputs)
    return value.detach(), torch.autograd.grad(value, outputs)[0]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_pixels_are_compared_over_their_classes(saying: Any, temperature: float) -> None:
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    settings = Distillation(alpha=1.0, temperature=temperature)
    objective = DistillationLoss(saying(teacher), settings, goal=Segmentation())

    def slow(outputs: Tensor) -> Tensor:
        rows = [(outputs[n, :, i, j], teacher[n, :, i, j])
                for n in range(2) for i in range(4) for j in range(5)]
        return torch.stack([slow_divergence(*pair, temperature) for pair in rows]).mean()

    found = gradients(lambda one: objective.loss((one,), Batch((), None, torch.arange(2))), student)
    torch.testing.assert_close(found, gradients(slow, student))


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3), (2, 3, 4)])
def test_answers_are_compared_as_two_classes(saying: Any, shape: tuple[int, ...]) -> None:
    student, teacher, temperature = torch.randn(shape), torch.randn(shape), 2.0
    objective = DistillationLoss(saying(teacher), Distillation(alpha=1.0, temperature=temperature),
                                 goal=MultiLabel())

    def slow(outputs: Tensor) -> Tensor:
        p, q = (teacher / temperature).sigmoid(), (outputs / temperature).sigmoid()
        yes, no = p * (p / q).log(), (1 - p) * ((1 - p) / (1 - q)).log()
        return temperature**2 * (yes + no).mean()

    batch = Batch((), None, torch.arange(len(student)))
    found = gradients(lambda one: objective.loss((one,), batch), student)
    torch.testing.assert_close(found, gradients(slow, student))


def test_without_any_labelled_pixel_the_decoupled_loss_is_zero(saying: Any) -> None:
    student, targets = torch.randn(2, 3, 4, 5, requires_grad=True), torch.full((2, 4, 5), 255)
    loss = DistillationLoss(saying(torch.randn(2, 3, 4, 5)), Distillation(alpha=1.0, logits="decoupled"),
                            goal=Segmentation(255)).loss((student,), Batch((), targets, torch.arange(2)))
    assert float(loss.detach()) == 0


def test_labels_out_of_range_are_named_before_training() -> None:
    x, y = torch.randn(20, 4), torch.full((20,), 7)
    program = Program.capture(mlp(4, 3), x[:2])
    for logits in LOGIT_LOSSES:
        with pytest.raises(DataError, match=r"sample 0 of the train split has label 7; allowed: 0\.\.2"):
            fit(program, Task((x, y), (x, y), (x[1:], y[1:])), Training(epochs=1, compute="cpu"),
                mlp(8, 3), distillation=Distillation(logits=logits))


@pytest.mark.parametrize("ignored", [None, 255])
def test_the_decoupled_loss_of_pixels_leaves_out_those_without_a_class(saying: Any,
                                                                       ignored: int | None) -> None:
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    targets = torch.randint(0, 3, (2, 4, 5))
    if ignored is not None:
        targets[0, 1] = ignored
    settings = Distillation(alpha=1.0, logits="decoupled")
    found = DistillationLoss(saying(teacher), settings, goal=Segmentation(ignored)).loss(
        (student,), Batch((), targets, torch.arange(2)))
    kept = targets != 255
    want = LOGIT_LOSSES["decoupled"](student.movedim(1, -1)[kept], teacher.movedim(1, -1)[kept],
                                     targets[kept], settings)
    torch.testing.assert_close(found, want)


def test_with_two_classes_the_decoupled_loss_is_hintons(saying: Any) -> None:
    student, teacher, targets = torch.randn(5, 3), torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    batch = Batch((), targets, torch.arange(5))
    one, other = (DistillationLoss(saying(teacher), Distillation(alpha=1.0, logits=logits),
                                   goal=MultiLabel()).loss((student,), batch)
                  for logits in ("decoupled", "hinton"))
    torch.testing.assert_close(one, other)


def test_values_are_compared_in_the_teachers_units_and_vectors_by_direction(saying: Any) -> None:
    student, teacher = torch.randn(8, 3), torch.randn(8, 3)
    batch = Batch((), None, torch.arange(8))

    def loss(goal: Goal, mine: Tensor, theirs: Tensor) -> Tensor:
        return DistillationLoss(saying(theirs), Distillation(alpha=1.0), goal=goal).loss((mine,), batch)

    want = 0.5 * (student - teacher).square().mean() / teacher.var(correction=0)
    torch.testing.assert_close(loss(Regression(), student, teacher), want)
    torch.testing.assert_close(loss(Regression(), 1000 * student, 1000 * teacher), want)
    torch.testing.assert_close(loss(Embedding(), 7 * student, teacher),
                               1 - F.cosine_similarity(student, teacher).mean())


def test_a_batch_of_one_value_is_scaled_by_its_size(saying: Any) -> None:
    student = torch.randn(1, 1, requires_grad=True)
    objective = DistillationLoss(saying(torch.full((1, 1), 4.0)), Distillation(alpha=1.0), goal=Regression())
    loss = objective.loss((student,), Batch((), None, torch.arange(1)))
    loss.backward()
    torch.testing.assert_close(loss, 0.5 * (student - 4).square().mean() / 16)
    torch.testing.assert_close(student.grad, (student.detach() - 4) / 16)


def test_several_predictions_are_paired_by_name_and_averaged(saying: Any) -> None:
    outputs = {"age": torch.randn(6, 1), "sex": torch.randn(6, 2)}
    teacher = {"sex": torch.randn(6, 2), "more": torch.randn(6, 9), "age": torch.randn(6, 1)}
    targets = {"age": torch.randn(6, 1), "sex": torch.arange(6) % 2}
    batch = Batch((), targets, torch.arange(6))
    found = DistillationLoss(saying(teacher), Distillation(alpha=0.3), goal=HEADS).loss((outputs,), batch)
    parts = [DistillationLoss(saying(teacher[name]), Distillation(alpha=1.0), goal=goal).loss(
        (outputs[name],), batch) for name, goal in HEADS.goals.items()]
    torch.testing.assert_close(found, 0.3 * (parts[0] + parts[1]) / 2 + 0.7 * HEADS.loss(outputs, targets))


def test_a_teacher_may_name_its_only_prediction_or_not(saying: Any) -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    batch = Batch((), None, torch.arange(2))

    def loss(goal: Goal, mine: Any, theirs: Any) -> Tensor:
        return DistillationLoss(saying(theirs), Distillation(alpha=1.0), goal=goal).loss((mine,), batch)

    plain = loss(Segmentation(), student, teacher)
    named = {"out": student, "aux": torch.zeros(2)}
    assert torch.equal(loss(Segmentation(output="out"), named, teacher), plain)
    assert torch.equal(loss(Segmentation(output="out"), named, {"out": teacher}), plain)
    assert torch.equal(loss(Segmentation(), student, {"logits": teacher}), plain)
    assert torch.equal(loss(Segmentation(), student, (teacher,)), plain)


def test_the_decoupled_loss_finds_the_classes_of_each_head(saying: Any) -> None:
    outputs = {"a": torch.randn(6, 3), "b": torch.randn(6, 2)}
    teacher = {"a": torch.randn(6, 3), "b": torch.randn(6, 2)}
    targets = {"a": torch.arange(6) % 3, "b": torch.arange(6) % 2}
    settings = Distillation(alpha=1.0, logits="decoupled")
    goal = MultiTask({"a": Classification(), "b": Classification()})
    found = DistillationLoss(saying(teacher), settings, goal=goal).loss(
        (outputs,), Batch((), targets, torch.arange(6)))
    want = sum(LOGIT_LOSSES["decoupled"](outputs[name], teacher[name], targets[name], settings)
               for name in outputs) / 2
    torch.testing.assert_close(found, want)


MISMATCHES: dict[str, tuple[Goal, Any, Any, str]] = {
    "shape": (Segmentation(output="out"), {"out": torch.zeros(2, 3, 4, 4)},
              {"out": torch.zeros(2, 3, 8, 8)}, "the teacher's output 'out' has shape (2, 3, 8, 8), the "
              "student's (2, 3, 4, 4); they must have the same classes"),
    "values": (Regression(), torch.zeros(2, 3), torch.zeros(2, 1), "the teacher's output has shape "
               "(2, 1), the student's (2, 3); they must have the same size"),
    "missing": (HEADS, {"age": torch.zeros(2, 1), "sex": torch.zeros(2, 2)},
                {"age": torch.zeros(2, 1)}, "the teacher's outputs do not fit the goal: the goal"),
    "several": (Classification(), torch.zeros(2, 3), (torch.zeros(2, 3), torch.zeros(2, 3)),
                "the teacher's outputs do not fit the goal: the model returns 2 outputs"),
    "names": (CustomGoal(lambda outputs, targets: outputs["a"].mean(), {"mae": torchmetrics.MeanAbsoluteError()}),
              {"a": torch.zeros(2, 1), "b": torch.zeros(2, 1)}, {"a": torch.zeros(2, 1), "c": torch.zeros(2, 1)},
              "the teacher has no prediction 'b' to compare the student's with; it has 'a', 'c': give "
              "both the same names"),
    "integers": (Classification(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.long),
                 "the teacher's output is int64; only floating-point tensors can be distilled"),
    "one class": (Segmentation(), torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), "there is nothing to "
                  "learn from a single class: return two logits, or use the goal binary or regression"),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_predictions_that_do_not_match_raise(saying: Any, case: str) -> None:
    goal, student, teacher, message = MISMATCHES[case]
    objective = DistillationLoss(saying(teacher), Distillation(alpha=1.0), goal=goal)
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        objective.loss((student,), Batch((), None, torch.arange(2)))
    assert "\n" not in str(caught.value)


def test_a_mismatch_is_found_before_training() -> None:
    task = task_of("heads")
    program = Program.capture(Heads(4), task.train.example(2))
    with pytest.raises(ModelError, match=r"the teacher's outputs do not fit the goal: the goal .*'age'"):
        fit(program, task, Training(epochs=1, compute="cpu"), mlp(4, 3))


def test_the_decoupled_loss_without_classes_raises(saying: Any) -> None:
    settings = Distillation(alpha=1.0, logits="decoupled")
    objective = DistillationLoss(saying(torch.zeros(2, 3)), settings)
    with pytest.raises(UsageError, match="no classes for the output among the targets; use logits='hinton'"):
        objective.loss((torch.zeros(2, 3),), Batch((), None, torch.arange(2)))


def unlabelled() -> tuple[Task, Program]:
    """A task without targets, whose metric would need them."""
    goal = CustomGoal(F.cross_entropy,
                      {"mae": torchmetrics.MeanAbsoluteError()}, kinds={"": Categorical()})
    x = torch.randn(64, 4)
    task = Task((x, None), (x[:20], None), (x[1:20], None), goal=goal)
    return task, Program.capture(mlp(6, 3), x[:2])


@pytest.mark.parametrize("features", [None, "attention"])
def test_with_alpha_1_no_targets_are_needed(features: Any) -> None:
    task, program = unlabelled()
    teacher, x = Program.capture(mlp(12, 3), task.train.example(2)), task.val.example(20)[0]
    training = Training(epochs=10, batch_size=16, lr=0.01, optimizer="adamw", compute="cpu")
    trained = fit(program, task, training, teacher,
                  distillation=Distillation(alpha=1.0, features=features))
    assert distance(task.goal, teacher, trained, x) < 0.8 * distance(task.goal, teacher, program, x)
    score = DistillationLoss(ModuleTeacher(teacher), Distillation(alpha=1.0), goal=task.goal).validate(
        trained.module(), task.val)
    assert (score.name, score.higher_is_better) == ("loss", False)
    assert score.value == pytest.approx(distance(task.goal, teacher, trained, x), rel=1e-5)


def test_a_cache_cannot_compare_epochs_without_targets(tmp_path: Path) -> None:
    task, program = unlabelled()
    with pytest.raises(UsageError, match="the val split has no targets, so epochs are compared by the "
                       "teacher's outputs on the validation samples, which a teacher cache does not hold"):
        fit(program, task, Training(epochs=1, compute="cpu"), mlp(8, 3), cache=tmp_path / "c",
            distillation=Distillation(alpha=1.0))


def test_an_autoencoder_learns_from_a_teacher_and_is_compared_by_its_metric() -> None:
    x = torch.randn(64, 4)
    task = Task((x, None), (x[:20], None), (x[1:20], None), goal=Reconstruction())
    program, teacher = Program.capture(mlp(4, 4), x[:2]), mlp(16, 4)
    objective = make_objective(teacher, task.goal, Distillation(alpha=1.0))
    assert objective.validate(program.module(), task.val).name == task.metric.name
    assert fit(program, task, Training(epochs=1, compute="cpu"), teacher) is not program


def test_exits_learn_from_the_final_one_for_every_kind_of_output() -> None:
    for job, goal in GOALS.items():
        x, targets = inputs_of(job, 6), targets_of(job, 6)
        early, last = make(job, 4)(x), make(job, 4)(x)
        batch, settings = Batch((x,), targets, torch.arange(6)), Distillation(self_weight=0.5)
        inner = GoalLoss(goal)
        objective = SelfDistillationLoss(inner, settings, goal=goal)
        taught = DistillationLoss(ModuleTeacher(nn.Identity()), Distillation(alpha=1.0), goal=goal)
        apart = taught.loss((early,), batch._replace(inputs=(last,)))
        alone = inner.loss((early, last), batch)
        torch.testing.assert_close(objective.loss((early, last), batch), alone + 0.5 * apart)


def test_two_outputs_of_one_size_are_not_exits() -> None:
    goal = MultiTask({"0": Classification(), "1": Classification()})
    heads, targets = (torch.randn(5, 3), torch.randn(5, 3)), (torch.arange(5) % 3, torch.arange(5) % 3)
    batch = Batch((), dict(zip("01", targets, strict=True)), torch.arange(5))
    objective = make_objective(None, goal, Distillation(self_weight=5.0))
    assert torch.equal(objective.loss((heads,), batch), goal.loss(heads, batch.targets))


@every_goal
def test_only_logits_over_classes_are_cached(job: str, tmp_path: Path) -> None:
    task = task_of(job)
    teacher = make(job, 8)
    asked: list[int] = []
    teacher.register_forward_hook(lambda module, given, result: asked.append(len(given[0])))
    program = Program.capture(make(job, 4), task.train.example(2))
    message = f"stores logits \\(N, classes\\) of one prediction, but the goal {task.goal.name} has "
    with pytest.raises(UsageError, match=message):
        fit(program, task, Training(epochs=1, compute="cpu"), teacher, cache=tmp_path / "c")
    assert not asked
    with pytest.raises(UsageError, match=message):
        cache_teacher(ModuleTeacher(teacher), task, tmp_path / "c")
    assert sum(asked) <= 32
    assert not list(tmp_path.iterdir())


def test_the_named_logits_of_a_classifier_are_cached(tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(8, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"aux": x, "out": self.body(x)}

    x, y = torch.randn(40, 4), torch.arange(40) % 3
    task = Task((x, y), test=(x, y), goal=Classification(output="out"))
    program = Program.capture(Named(), x[:2])
    fit(program, task, Training(epochs=1, augment=False, compute="cpu"), Named(), cache=tmp_path / "c")
    assert (tmp_path / "c").exists()


def test_label_smoothing_needs_classes() -> None:
    with pytest.raises(UsageError, match=r"label_smoothing=0.1 needs classes, but the task's goal is regression"):
        make_objective(mlp(4, 1), Regression(), label_smoothing=0.1)


def test_only_regressed_outputs_need_not_fit_the_goal(saying: Any) -> None:
    teacher = saying(torch.zeros(2, 3))
    for logits in LOGIT_LOSSES:
        for alpha in (0.5, 1.0):
            objective = DistillationLoss(teacher, Distillation(logits=logits, alpha=alpha), goal=Regression())
            assert (objective.goal is None) == (alpha == 1 and logits in {"mse", "smooth_l1"})


def test_kinds_of_ones_own_goal_are_used(saying: Any) -> None:
    goal = CustomGoal(lambda outputs, targets: outputs["a"].mean(), {"mae": torchmetrics.MeanAbsoluteError()},
                      kinds={"a": Categorical(-1), "b": Bernoulli()})
    outputs, teacher = ({"a": torch.randn(2, 5, 3), "b": torch.randn(2, 4)} for _ in range(2))
    found = DistillationLoss(saying(teacher), Distillation(alpha=1.0), goal=goal).loss(
        (outputs,), Batch((), None, torch.arange(2)))
    logits = slow_divergence(outputs["a"], teacher["a"], 4.0).mean()
    mine, theirs = (torch.stack([torch.zeros(2, 4), one["b"]], -1) for one in (outputs, teacher))
    torch.testing.assert_close(found, (logits + slow_divergence(mine, theirs, 4.0).mean()) / 2)
