from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from edgewright.errors import DataError, ModelError, UsageError
from edgewright.goals import Origin, Reconstruction, Regression

N = 10
ORIGIN = Origin("train", torch.arange(N))
REFERENCES = {
    "mse": lambda d: d ** 2, "l1": abs,
    "smooth_l1": lambda d: d ** 2 / 2 if abs(d) < 1 else abs(d) - 0.5,
}


def by_hand(name: str, prediction: Tensor, targets: Tensor) -> float:
    pairs = zip(prediction.flatten().tolist(), targets.flatten().tolist(), strict=True)
    values = [REFERENCES[name](one - other) for one, other in pairs]
    return sum(values) / len(values)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(("outputs", "given"), [((N,), (N,)), ((N, 1), (N,)), ((N,), (N, 1)),
                                                ((N, 2, 3), (N, 2, 3))])
def test_the_loss_against_a_reference(name: Any, outputs: tuple[int, ...],
                                      given: tuple[int, ...]) -> None:
    goal, prediction, raw = Regression(name), 2 * torch.randn(outputs), torch.randn(given)
    expected = by_hand(name, prediction, raw)
    for known in (None, prediction):
        targets = goal.check_targets(raw.double(), ORIGIN, known)
        assert targets.dtype == torch.float32
        assert float(goal.loss(prediction, targets)) == pytest.approx(expected, rel=1e-5)
    assert goal.check_targets(raw, ORIGIN, prediction).shape == prediction.shape
    reconstruction = Reconstruction(name)
    inputs = reconstruction.make_targets((raw,), None)
    assert float(reconstruction.loss(prediction, inputs)) == pytest.approx(expected, rel=1e-5)


def test_metrics_by_hand_and_their_order() -> None:
    prediction, targets = torch.randn(N, 1), torch.randn(N)
    difference = prediction[:, 0] - targets
    expected = {"mae": float(difference.abs().mean()),
                "rmse": float(difference.square().mean().sqrt())}
    for goal, order in ((Regression(unit="years"), ["mae", "rmse"]),
                        (Reconstruction(unit="years"), ["rmse", "mae"])):
        assert [metric.spec.name for metric in goal.metrics] == order
        for metric in goal.metrics:
            assert (metric.spec.unit, metric.spec.higher_is_better) == ("years", False)
            made = metric.make()
            for rows in (slice(0, 7), slice(7, None)):
                made.update(*goal.metric_inputs(prediction[rows], targets[rows]))
            assert float(made.compute()) == pytest.approx(expected[metric.spec.name], rel=1e-5)


def test_anomalies_by_hand_and_against_sklearn() -> None:
    goal = Reconstruction(anomalies=True)
    inputs, output = torch.randn(N, 3, 2), torch.randn(N, 6)
    labels = goal.check_targets(torch.tensor([0, 1] * 5), ORIGIN)
    targets = goal.make_targets((inputs,), labels)
    errors = ((output - inputs.flatten(1)) ** 2).mean(1)
    assert float(goal.loss(output, targets)) == pytest.approx(float(errors[::2].mean()), rel=1e-5)
    (metric,) = goal.metrics
    made = metric.make()
    for rows in (slice(0, 7), slice(7, None)):
        made.update(*goal.metric_inputs(output[rows], {key: part[rows]
                                                       for key, part in targets.items()}))
    assert metric.spec.name == "auroc"
    assert float(made.compute()) == pytest.approx(roc_auc_score(labels, errors))
    made.reset()
    made.update(1e5 * errors, labels.long())  # errors are not bounded
    assert float(made.compute()) == pytest.approx(roc_auc_score(labels, errors))


def test_a_batch_of_anomalies_costs_nothing() -> None:
    goal, output = Reconstruction(anomalies=True), torch.randn(N, 2, requires_grad=True)
    loss = goal.loss(output, goal.make_targets((torch.randn(N, 2),), torch.ones(N)))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize(("goal", "targets", "message"), [
    (Regression(), None, "the train split has no targets; expected real values for each sample"),
    (Regression(), torch.zeros(N).bool(), "are bool; expected real values for each sample"),
    (Regression(), torch.full((N, 4), torch.nan), "the target of sample 0 of the train split holds "
                                                  "NaN or infinity"),
    (Regression(), torch.zeros(N, 3), r"have shape \(N, 3\), but the model's prediction asks for "
                                      r"\(N, 4\)"),
    (Regression(), torch.zeros(N), r"have shape \(N,\), but the model's prediction asks for "
                                   r"\(N, 4\)"),
    (Reconstruction(anomalies=True), None, "the train split has no targets; expected 1 for each "
                                           "anomalous sample and 0 for the others"),
    (Reconstruction(anomalies=True), torch.full((N,), 2), "neither 0 nor 1: 2.0"),
    (Reconstruction(anomalies=True), torch.zeros(N, 2), r"have shape \(N, 2\), but .* \(N,\)"),
])
def test_targets_that_do_not_fit_are_refused(goal: Any, targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        goal.check_targets(targets, ORIGIN, torch.zeros(2, 4))


def test_reconstruction_needs_no_targets_and_ignores_them() -> None:
    assert not Reconstruction().requires_targets
    assert Reconstruction(anomalies=True).requires_targets
    assert Reconstruction().check_targets(torch.zeros(N), ORIGIN) is None
    inputs = (torch.zeros(N, 2), torch.ones(N, 3, dtype=torch.uint8))
    assert torch.equal(Reconstruction(input=1).make_targets(inputs, None), torch.ones(N, 3))


@pytest.mark.parametrize("position", [2, -1])
def test_an_input_that_the_data_lack_is_refused(position: int) -> None:
    with pytest.raises(DataError, match=f"the goal reconstructs input {position}, but the data have "
                                        "2 inputs; the first one is 0"):
        Reconstruction(input=position).make_targets((torch.zeros(N, 2),) * 2, None)


def test_a_reconstruction_has_the_values_of_its_input() -> None:
    goal, inputs = Reconstruction(), (torch.zeros(N, 2, 3),)
    goal.check_outputs(torch.zeros(N, 6), inputs)
    for wrong in (torch.zeros(N, 5), torch.zeros(N, 6).long(), torch.zeros(6, N)):
        with pytest.raises(ModelError, match="expected floating point with the 6 values of the "
                                             "input"):
            goal.check_outputs(wrong, inputs)
    with pytest.raises(ModelError, match="expected floating point with the batch as first dim"):
        Regression().check_outputs(torch.zeros(3, N), inputs)


@pytest.mark.parametrize("kind", [Regression, Reconstruction])
def test_an_unknown_loss_is_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match="unknown loss 'huber'; expected 'mse', 'l1', 'smooth_l1'"):
        kind("huber")


def test_values_are_mixed_like_the_inputs() -> None:
    targets, other = torch.randn(N, 2), torch.randperm(N)
    mixed = Regression().mix(targets, other, 0.3, None)
    torch.testing.assert_close(mixed, 0.3 * targets + 0.7 * targets[other])
    with pytest.raises(UsageError, match="cannot mix the targets of the goal reconstruction"):
        Reconstruction().mix(targets, other, 0.3, None)


def test_values_may_be_positions_and_do_not_allow_augmentation() -> None:
    assert not Regression().allows_augmentation(torch.zeros(N, 2))
    assert Reconstruction().allows_augmentation(None)


@pytest.mark.parametrize("label", [0, 1])
def test_anomalies_of_one_kind_have_no_area_under_the_curve(label: int) -> None:
    metric = Reconstruction(anomalies=True).metrics[0].make()
    metric.update(torch.rand(4), torch.full((4,), label))
    with pytest.raises(DataError, match=f"all have target {label}; give val and test splits with"):
        metric.compute()
    metric.reset()
    metric.update(torch.tensor([0.1, 0.9]), torch.tensor([0, 1]))
    assert float(metric.compute()) == 1.0
