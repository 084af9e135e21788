from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewright.distill import Ensemble, Teacher, TeacherOutput
from edgewright.distill._ensemble import confidence_weights
from edgewright.errors import ModelError, UsageError
from edgewright.goals import Embedding, MultiLabel, Regression, Segmentation
from edgewright.task import Batch


class Fixed(Teacher):
    def __init__(self, logits: Any, features: tuple[Any, ...] = (), views: Any = None) -> None:
        self.name = f"fixed {float(logits.sum()):.3f}"
        self.taught = TeacherOutput(logits, features)
        self.views = views
        self.device = None

    def to(self, device: Any) -> None:
        self.device = device

    def teach(self, batch: Any) -> Any:
        return self.taught


def batch_of(targets: Any) -> Any:
    return Batch((), torch.as_tensor(targets), torch.arange(len(targets)))


def by_hand(losses: Any) -> Any:
    """Zhang, Chen & Wang 2022, equation 4."""
    whole = sum(math.exp(loss) for loss in losses)
    return [(1 - math.exp(loss) / whole) / (len(losses) - 1) for loss in losses]


def test_the_average_is_the_mean_of_the_logits() -> None:
    one, other = torch.randn(4, 3), torch.randn(4, 3)
    taught = Ensemble([Fixed(one), Fixed(other)]).teach(batch_of([0, 1, 2, 0]))
    torch.testing.assert_close(taught.outputs, (one + other) / 2)


@pytest.mark.parametrize("count", [2, 3])
def test_confidence_weighs_every_sample_by_the_papers_equation(count: int) -> None:
    torch.manual_seed(0)
    logits, targets = 3 * torch.randn(count, 5, 4), [0, 3, 1, 2, 2]
    taught = Ensemble([Fixed(one) for one in logits], "confidence").teach(batch_of(targets))
    for sample, label in enumerate(targets):
        losses = [-math.log(one[sample].softmax(0)[label]) for one in logits]
        expected = sum(weight * one[sample]
                       for weight, one in zip(by_hand(losses), logits, strict=True))
        torch.testing.assert_close(taught.outputs[sample], expected)


def test_labels_may_be_given_as_probabilities() -> None:
    logits, targets = torch.randn(3, 6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    certain = torch.nn.functional.one_hot(targets, 4).float()
    torch.testing.assert_close(confidence_weights(logits, targets),
                               confidence_weights(logits, certain))


def test_every_position_of_a_sequence_has_its_own_weights() -> None:
    logits, targets = torch.randn(2, 6, 5, 4), torch.randint(0, 4, (6, 5))
    found = confidence_weights(logits, targets)
    assert found.shape == (2, 6, 5)
    torch.testing.assert_close(found.flatten(1), confidence_weights(logits.flatten(1, 2),
                                                                    targets.flatten()))


@given(st.integers(2, 4), st.integers(0, 1000))
def test_weights_sum_to_one_and_favor_confident_teachers(count: Any, seed: Any) -> None:
    logits = 4 * torch.randn(count, 3, 5, generator=torch.Generator().manual_seed(seed))
    targets = torch.tensor([0, 4, 2])
    weights = confidence_weights(logits, targets)
    surest = logits.softmax(-1)[:, torch.arange(3), targets].argmax(0)
    torch.testing.assert_close(weights.sum(0), torch.ones(3))
    torch.testing.assert_close(weights.gather(0, surest[None])[0], weights.amax(0))


def test_features_are_concatenated_and_all_teachers_move() -> None:
    logits = torch.zeros(2, 3)
    teachers = [Fixed(logits, (torch.ones(2, 1),)), Fixed(logits, (torch.ones(2, 2),))]
    ensemble = Ensemble(teachers)
    ensemble.to(torch.device("meta"))
    assert [f.shape[1] for f in ensemble.teach(batch_of([0, 0])).features] == [1, 2]
    assert {teacher.device for teacher in teachers} == {torch.device("meta")}


def test_views_are_those_that_all_teachers_have() -> None:
    logits = torch.zeros(2, 3)
    assert Ensemble([Fixed(logits), Fixed(logits)]).views is None
    assert Ensemble([Fixed(logits, views=4), Fixed(logits), Fixed(logits, views=2)]).views == 2


def test_the_name_includes_weights_and_teachers() -> None:
    one, other = Fixed(torch.zeros(2, 3)), Fixed(torch.ones(2, 3))
    names = {Ensemble(pair, weights).name for pair in ([one, other], [one, one])
             for weights in ("average", "confidence")}
    assert len(names) == 4


def test_invalid_ensembles_raise() -> None:
    with pytest.raises(UsageError, match="needs at least two teachers, got 1"):
        Ensemble([Fixed(torch.zeros(2, 3))])
    with pytest.raises(UsageError, match="unknown ensemble weights 'loudest'"):
        Ensemble([Fixed(torch.zeros(2, 3))] * 2, "loudest")  # type: ignore[arg-type]


def test_teachers_with_different_classes_are_named() -> None:
    ensemble = Ensemble([Fixed(torch.zeros(2, 3)), Fixed(torch.zeros(2, 4))])
    with pytest.raises(ModelError, match=r"\(fixed 0.000: \(2, 3\), fixed 0.000: \(2, 4\)\)"):
        ensemble.teach(batch_of([0, 0]))


def test_an_ensemble_averages_every_output(saying: Any) -> None:
    one, other = ({"out": torch.randn(2, 3, 4, 4), "aux": torch.randn(2, 5)} for _ in range(2))
    found = Ensemble([saying({**one, "count": 7}), saying({**other, "count": 7})]).teach(
        Batch((), None, torch.arange(2))).outputs
    assert found["count"] == 7
    for name in ("out", "aux"):
        torch.testing.assert_close(found[name], (one[name] + other[name]) / 2)


def test_confidence_weighs_every_pixel(saying: Any) -> None:
    logits, targets = torch.randn(2, 3, 4, 5, 5), torch.randint(0, 4, (3, 5, 5))
    targets[0, 0] = 255
    teachers, batch = [saying(one) for one in logits], Batch((), targets, torch.arange(3))
    found = Ensemble(teachers, "confidence", Segmentation(255)).teach(batch).outputs
    flat = [saying(one.movedim(1, -1).reshape(-1, 4)) for one in logits]
    kept = (targets != 255).flatten()
    pixels = Batch((), targets.flatten().where(kept, 0), torch.arange(75))
    want = Ensemble(flat, "confidence").teach(pixels).outputs
    rows = found.movedim(1, -1).reshape(-1, 4)
    torch.testing.assert_close(rows[kept], want[kept])
    torch.testing.assert_close(rows[~kept], logits.mean(0).movedim(1, -1).reshape(-1, 4)[~kept])


def test_ensembles_that_cannot_be_averaged_raise(saying: Any) -> None:
    batch = Batch((), None, torch.arange(2))
    for pair, found in (((torch.zeros(2, 3), {"out": torch.zeros(2, 3)}), r"\(2, 3\), .*a dict of out"),
                        (((torch.zeros(2),), (torch.zeros(2),) * 2), "1 outputs, .*2 outputs")):
        with pytest.raises(ModelError, match=f"different names or shapes .*{found}"):
            Ensemble([saying(one) for one in pair]).teach(batch)
    teachers = [saying(torch.zeros(2, 3))] * 2
    for goal in (Regression(), MultiLabel(), Embedding()):
        with pytest.raises(UsageError, match="needs a goal with one prediction over classes, but the goal "
                           f"is {goal.name}; use weights='average'"):
            Ensemble(teachers, "confidence", goal).teach(batch)
    with pytest.raises(UsageError, match="needs the class of every sample, but there are no such targets"):
        Ensemble(teachers, "confidence").teach(batch)
