from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import DataError, ModelError, UsageError
from edgewright.goals import Embedding, Origin
from edgewright.goals._embedding import RecallAtOne

seeds = st.integers(0, 2**31)


@given(seed=seeds, count=st.integers(2, 9), temperature=st.sampled_from([0.1, 1.0]))
def test_the_loss_by_hand(seed: int, count: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, generator=generator)
    classes = torch.randint(0, 3, (count,), generator=generator)
    unit = [vector / vector.norm() for vector in vectors.double()]
    losses = []
    for anchor in range(count):
        others = [row for row in range(count) if row != anchor]
        partners = [row for row in others if classes[row] == classes[anchor]]
        total = sum((unit[anchor] @ unit[row] / temperature).exp() for row in others)
        losses += [-sum(float(((unit[anchor] @ unit[row] / temperature).exp() / total).log())
                        for row in partners) / len(partners)] if partners else []
    expected = sum(losses) / len(losses) if losses else 0
    found = Embedding(temperature=temperature).loss(vectors, classes)
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_without_pairs_costs_nothing_and_has_a_finite_gradient(count: int) -> None:
    vectors = torch.randn(count, 4, requires_grad=True)
    loss = Embedding().loss(vectors, torch.arange(count))
    loss.backward()
    assert loss.item() == 0
    assert vectors.grad is not None
    assert bool(torch.isfinite(vectors.grad).all())


@given(seed=seeds, count=st.integers(2, 12), batch=st.integers(1, 5))
def test_recall_by_hand(seed: int, count: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, generator=generator)
    classes = torch.randint(0, 3, (count,), generator=generator)
    metric = RecallAtOne()
    for rows in torch.arange(count).split(batch):
        metric.update(7 * vectors[rows], classes[rows])
    hits = 0
    for row in range(count):
        cosines = [float(torch.cosine_similarity(vectors[row], vectors[other], dim=0))
                   if other != row else -2 for other in range(count)]
        hits += int(classes[cosines.index(max(cosines))] == classes[row])
    assert metric.compute() == pytest.approx(hits / count)


def test_recall_over_more_samples_than_are_compared_at_a_time() -> None:
    metric, angles = RecallAtOne(), torch.arange(600) // 2 * 1.0
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1).repeat_interleave(1, 0)
    metric.update(vectors, torch.arange(600) // 2)
    assert metric.compute() == 1


def test_recall_of_fewer_than_two_samples_is_nan() -> None:
    metric = RecallAtOne()
    assert metric.compute() != metric.compute()
    metric.update(torch.ones(1, 2), torch.zeros(1).long())
    assert metric.compute() != metric.compute()
    metric.update(torch.ones(1, 2), torch.zeros(1).long())
    assert metric.compute() == 1
    metric.reset()
    assert metric.compute() != metric.compute()


def test_what_does_not_fit_is_refused() -> None:
    goal, origin = Embedding(), Origin("test", torch.arange(4))
    with pytest.raises(UsageError, match="temperature must be above 0, got 0"):
        Embedding(temperature=0)
    with pytest.raises(DataError, match="the test split has no targets; expected the index of each "
                                        "sample's class"):
        goal.check_targets(None, origin)
    with pytest.raises(DataError, match="sample 2 of the test split has label -1; allowed: 0 or"):
        goal.check_targets(torch.tensor([0, 1, -1, 5]), origin)
    for wrong in (torch.zeros(4, 1), torch.zeros(4), torch.zeros(4, 2, 2), torch.zeros(4, 2).long()):
        with pytest.raises(ModelError, match=r"expected floating-point vectors \(N, dimensions\) "
                                             "with at least two dimensions"):
            goal.check_outputs(wrong, (torch.zeros(4, 3),))
    assert goal.check_targets(torch.tensor([0, 1, 900, 5]), origin, torch.zeros(4, 2)).max() == 900
    assert goal.allows_augmentation(torch.zeros(4))
