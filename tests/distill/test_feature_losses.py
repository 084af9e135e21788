"""Every loss against its definition, by plain loops, and what it is blind to."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import pytest
import torch

from edgewright.distill import FEATURE_LOSSES
from edgewright.distill._feature_losses import pool_to_same_size
from edgewright.errors import ModelError

SHAPES = {"vectors": ((5, 6), (5, 6)), "tokens": ((5, 3, 6), (5, 3, 6)),
          "maps": ((5, 6, 2, 3), (5, 6, 2, 3)), "more tokens": ((5, 6, 4), (5, 3, 4)),
          "larger maps": ((5, 4, 2, 6), (5, 4, 4, 3))}
every_loss = pytest.mark.parametrize("name", FEATURE_LOSSES)


def channels_first(feature: Any) -> Any:
    return feature if feature.ndim != 3 else feature.transpose(1, 2)


def cells(values: Any, sizes: Any) -> Any:
    """The means of a grid's cells, of a list of numbers or of lists of them."""
    if not sizes:
        return values
    count, size = len(values), sizes[0]
    spans = [range(i * count // size, math.ceil((i + 1) * count / size)) for i in range(size)]
    return [mean_of([cells(values[place], sizes[1:]) for place in span]) for span in spans]


def mean_of(items: Any) -> Any:
    if isinstance(items[0], list):
        return [mean_of(list(parts)) for parts in zip(*items, strict=True)]
    return sum(items) / len(items)


def flat(values: Any) -> Any:
    return [number for part in values for number in flat(part)] if isinstance(values, list) \
        else [values]


def pooled(feature: Any, other: Any) -> Any:
    """[sample][channel][place], at the smaller number of places of the two."""
    one, two = channels_first(feature), channels_first(other)
    sizes = [min(pair) for pair in zip(one.shape[2:], two.shape[2:], strict=True)]
    return [[flat(cells(channel, sizes)) for channel in sample] for sample in one.tolist()]


def squared_distance(one: Any, two: Any) -> Any:
    return sum((a - b)**2 for a, b in zip(one, two, strict=True))


def unit(vector: Any) -> Any:
    norm = math.sqrt(sum(x * x for x in vector))
    return [x / norm for x in vector]


def hints(student: Any, teacher: Any) -> Any:
    gaps = [squared_distance(flat(one), flat(two)) / len(flat(one)) for one, two
            in zip(pooled(student, teacher), pooled(teacher, student), strict=True)]
    return sum(gaps) / len(gaps) / 2


def attention(student: Any, teacher: Any) -> Any:
    gaps = []
    for one, two in zip(pooled(student, teacher), pooled(teacher, student), strict=True):
        maps = [unit([sum(x * x for x in place) for place in zip(*sample, strict=True)])
                for sample in (one, two)]
        gaps.append(squared_distance(*maps) / len(maps[0]))
    return sum(gaps) / len(gaps)


def points(feature: Any) -> Any:
    return [[sum(flat(channel)) / len(flat(channel)) for channel in sample]
            for sample in channels_first(feature).tolist()]


def huber(gap: Any) -> Any:
    return gap**2 / 2 if abs(gap) <= 1 else abs(gap) - 0.5


def relations(feature: Any) -> tuple[Any, ...]:
    where = points(feature)
    distance = {pair: math.dist(where[pair[0]], where[pair[1]])
                for pair in permutations(range(len(where)), 2)}
    mean = sum(distance.values()) / len(distance)
    angle = {}
    for i, j, k in permutations(range(len(where)), 3):
        one, two = (unit([a - b for a, b in zip(where[end], where[j], strict=True)])
                    for end in (i, k))
        angle[i, j, k] = sum(a * b for a, b in zip(one, two, strict=True))
    return {pair: value / mean for pair, value in distance.items()}, angle


def relational(student: Any, teacher: Any) -> Any:
    means = [sum(huber(mine[key] - theirs[key]) for key in mine) / len(mine)
             for mine, theirs in zip(relations(student), relations(teacher), strict=True)]
    return means[0] + 2 * means[1]


def similarity(student: Any, teacher: Any) -> Any:
    tables = [[unit([sum(a * b for a, b in zip(flat(one), flat(two), strict=True))
                     for two in feature.tolist()]) for one in feature.tolist()]
              for feature in (student, teacher)]
    return sum(squared_distance(*rows) for rows in zip(*tables, strict=True)) / len(student)**2


REFERENCES = {function.__name__: function
              for function in (hints, attention, relational, similarity)}


def features(shape: Any) -> Any:
    return torch.randn(*shape, dtype=torch.float64) + 0.5


@every_loss
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_it_equals_its_definition(name: Any, shapes: Any) -> None:
    student, teacher = map(features, shapes)
    found = FEATURE_LOSSES[name].loss(student, teacher)
    assert float(found) == pytest.approx(REFERENCES[name](student, teacher), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("name", [name for name in FEATURE_LOSSES if name != "hints"])
def test_widths_may_differ(name: Any) -> None:
    student, teacher = features((5, 3, 4, 4)), features((5, 7, 2, 2))
    found = FEATURE_LOSSES[name].loss(student, teacher)
    assert float(found) == pytest.approx(REFERENCES[name](student, teacher), rel=1e-9)


def turned(feature: Any) -> Any:
    """An orthogonal map of the channels."""
    basis, _ = torch.linalg.qr(features((feature.shape[1], feature.shape[1])))
    return torch.einsum("dc,nc...->nd...", basis, feature)


BLIND = {
    "scale": (lambda x: 3 * x, {"attention", "relational", "similarity"}),
    "an orthogonal map of the channels": (turned, {"attention", "relational", "similarity"}),
    "a shift": (lambda x: x + torch.arange(6)[:, None, None], {"relational"}),
    "the order of the places": (lambda x: x.flip(3), {"relational", "similarity"}),
}


@every_loss
@pytest.mark.parametrize("change", BLIND)
def test_what_it_is_blind_to(name: Any, change: Any) -> None:
    apply, blind = BLIND[change]
    student, teacher = features((5, 6, 2, 3)), features((5, 6, 2, 3))
    loss = FEATURE_LOSSES[name].loss
    same = float(loss(apply(student), teacher)) == pytest.approx(float(loss(student, teacher)))
    assert same == (name in blind)


@every_loss
def test_the_order_of_the_samples_is_nothing(name: Any) -> None:
    student, teacher = features((5, 6, 2, 3)), features((5, 6, 2, 3))
    order = torch.tensor([3, 0, 4, 1, 2])
    loss = FEATURE_LOSSES[name].loss
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))


@every_loss
def test_equal_samples_and_zeros_stay_finite(name: Any) -> None:
    for student in (torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2)):
        student.requires_grad_()
        loss = FEATURE_LOSSES[name].loss(student, features((4, 3, 2, 2)).float())
        loss.backward()
        assert torch.isfinite(loss)
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()


def test_a_single_sample_has_no_relations_and_two_have_no_angles() -> None:
    student, teacher = features((1, 4)), features((1, 4))
    assert float(FEATURE_LOSSES["relational"].loss(student, teacher)) == 0
    pair = FEATURE_LOSSES["relational"].loss(features((2, 4)), features((2, 4)))
    assert float(pair) == pytest.approx(0, abs=1e-12)  # the one distance, divided by itself


def test_features_of_other_ranks_and_hints_of_other_widths_are_refused() -> None:
    with pytest.raises(ModelError, match=r"features of shape \(2, 3\) \(student\) and \(2, 3, 4, "
                       r"4\) \(teacher\) cannot be compared; expected both"):
        pool_to_same_size(torch.zeros(2, 3), torch.zeros(2, 3, 4, 4))
    with pytest.raises(ModelError, match=r"the student's are \(2, 3\) and the teacher's \(2, 4\); "
                       "project the student's"):
        FEATURE_LOSSES["hints"].loss(torch.zeros(2, 3), torch.zeros(2, 4))
