from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from edgewright.errors import DataError, ModelError, UsageError
from edgewright.goals import Binary, MultiLabel, Origin
from edgewright.goals._binary import SignAccuracy

N = 8
ORIGIN = Origin("val", torch.arange(N))
ANSWERS = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])


def read(goal: Any, name: str, outputs: Any, targets: Any) -> float:
    """A metric over two batches."""
    metric = next(metric for metric in goal.metrics if metric.spec.name == name).make()
    for rows in (slice(0, 5), slice(5, None)):
        metric.update(*goal.metric_inputs(outputs[rows], targets[rows]))
    return float(metric.compute())


@pytest.mark.parametrize("weight", [1.0, 3.5])
@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_the_loss_against_a_reference(shape: tuple[int, ...], weight: float) -> None:
    logits = torch.randn(N)
    chances = torch.sigmoid(logits.double())
    expected = -(weight * ANSWERS * chances.log() + (1 - ANSWERS) * (1 - chances).log()).mean()
    goal = Binary(positive_weight=weight)
    targets = goal.check_targets(ANSWERS.view(shape), ORIGIN)
    assert float(goal.loss(logits.view(shape), targets)) == pytest.approx(float(expected), rel=1e-5)
    if weight == 1:
        many, answers = logits.view(4, 2), ANSWERS.view(4, 2).float()
        assert float(MultiLabel().loss(many, answers)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_metrics_against_sklearn(shape: tuple[int, ...]) -> None:
    logits = torch.randn(N, generator=torch.Generator().manual_seed(3)) * 30
    goal, targets = Binary(), ANSWERS.float()
    assert read(goal, "auroc", logits.view(shape), targets) == pytest.approx(
        roc_auc_score(ANSWERS, logits))
    assert read(goal, "accuracy", logits.view(shape), targets) == pytest.approx(
        float(((logits > 0) == (ANSWERS > 0)).float().mean()))
    many, answers = torch.randn(N, 3), torch.randint(0, 2, (N, 3)).float()
    assert read(MultiLabel(), "f1", many, answers) == pytest.approx(
        f1_score(answers.flatten(), many.flatten() > 0), rel=1e-5)
    assert read(MultiLabel(), "accuracy", many, answers) == pytest.approx(
        float(((many > 0) == (answers > 0)).float().mean()))


def test_batches_of_logits_between_0_and_1_are_no_probabilities() -> None:
    logits, answers = torch.tensor([0.1, 0.9, 0.3, 0.2, 0.8, -9.0, 9.0, -0.1]), ANSWERS.float()
    assert read(Binary(), "auroc", logits, answers) == pytest.approx(roc_auc_score(ANSWERS, logits))
    assert read(MultiLabel(), "f1", logits[:, None], answers[:, None]) == pytest.approx(
        f1_score(ANSWERS, logits > 0))


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), max_size=20))
def test_sign_accuracy_by_hand(pairs: list[tuple[float, bool]]) -> None:
    metric = SignAccuracy()
    for logit, answer in pairs:
        metric.update(torch.tensor([logit], dtype=torch.double), torch.tensor([answer]).long())
    expected = [(logit > 0) == answer for logit, answer in pairs]
    found = metric.compute()
    assert found == sum(expected) / len(pairs) if pairs else found != found
    metric.reset()
    assert metric.compute() != metric.compute()


@pytest.mark.parametrize(("targets", "message"), [
    (None, "the val split has no targets; expected 0 or 1 for each sample"),
    (ANSWERS + 1, "sample 1 of the val split has a target that is neither 0 nor 1: 2.0; expected 0 "
                  "or 1 for each sample"),
    (torch.zeros(N, 2), r"the targets of the val split have shape \(N, 2\), but the model's "
                        r"prediction asks for \(N,\)"),
    (torch.full((N,), float("nan")), "sample 0 .* neither 0 nor 1: nan"),
])
def test_targets_that_are_no_answers_are_refused(targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Binary().check_targets(targets, ORIGIN)


def test_labels_have_the_shape_of_the_logits() -> None:
    goal, outputs = MultiLabel(), torch.zeros(2, 3)
    assert goal.check_targets(torch.ones(N, 3).bool(), ORIGIN, outputs).dtype == torch.float32
    with pytest.raises(DataError, match=r"have shape \(N, 2\), but the model's prediction asks for "
                                        r"\(N, 3\)"):
        goal.check_targets(torch.ones(N, 2), ORIGIN, outputs)
    goal.check_targets(torch.ones(N, 2), ORIGIN)


@pytest.mark.parametrize("outputs", [torch.zeros(N, 2), torch.zeros(N, 1, 1), torch.zeros(1, N),
                                     torch.zeros(N).long(), torch.tensor(0.0)])
def test_binary_asks_for_one_logit(outputs: Any) -> None:
    with pytest.raises(ModelError, match=r"the output of the model is .*; expected one "
                                         r"floating-point logit per sample, \(N,\) or \(N, 1\)"):
        Binary().check_outputs(outputs, (torch.zeros(N, 3),))


@pytest.mark.parametrize("goal", [Binary(), MultiLabel()])
def test_what_needs_classes_is_refused(goal: Any) -> None:
    assert goal.smooth_labels(0.0) is goal
    with pytest.raises(UsageError, match=f"label_smoothing=0.1 needs classes, but the task's goal is "
                                         f"{goal.name}; set it to 0"):
        goal.smooth_labels(0.1)
    with pytest.raises(UsageError, match=f"cannot mix the targets of the goal {goal.name}"):
        goal.mix(ANSWERS, torch.arange(N), 0.5, torch.zeros(N, 1))
    assert goal.count_classes(torch.zeros(N, 1)) is None


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_is_positive(weight: float) -> None:
    with pytest.raises(UsageError, match=f"positive_weight must be above 0, got {weight}"):
        Binary(positive_weight=weight)


def test_answers_about_pixels_do_not_allow_augmentation() -> None:
    assert Binary().allows_augmentation(torch.zeros(N))
    assert MultiLabel().allows_augmentation(torch.zeros(N, 3))
    assert not MultiLabel().allows_augmentation(torch.zeros(N, 1, 4, 4))
