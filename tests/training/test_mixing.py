from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgewright.errors import UsageError
from edgewright.goals import Classification
from edgewright.task import Batch, Task, View
from edgewright.training import Augmentation, GoalLoss, Objective, Training, train
from edgewright.training._mixing import mix_batch


def batch(count: int = 16, size: tuple[int, ...] = (3, 6, 10), classes: int = 4) -> Any:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, *size, generator=generator)
    return Batch((inputs,), torch.arange(count) % classes, torch.arange(count), View(0))


def mix(given: Any, config: Any, seed: int) -> Any:
    return mix_batch(given, config, Classification(), torch.zeros(1, 4), seed)


def drawn(seed: int, alpha: Any, count: int) -> tuple[Any, ...]:
    """What mixup draws where it stands alone."""
    random = np.random.default_rng(seed)
    return random.beta(alpha, alpha), random.permutation(count)


def test_mixup_by_hand() -> None:
    given = batch()
    found = mix(given, Augmentation(mixup=0.7), seed=5)
    share, other = drawn(5, 0.7, 16)
    for index in range(16):
        torch.testing.assert_close(found.inputs[0][index], (
            share * given.inputs[0][index] + (1 - share) * given.inputs[0][other[index]]))
        expected = torch.zeros(4)
        expected[given.targets[index]] += share
        expected[given.targets[other[index]]] += 1 - share
        torch.testing.assert_close(found.targets[index], expected)
    assert torch.equal(found.rows, given.rows)
    assert found.targets.dtype == torch.float32


@pytest.mark.parametrize("seed", range(30))
def test_cutmix_pastes_a_box_and_counts_its_pixels(seed: int) -> None:
    given = batch()
    found = mix(given, Augmentation(cutmix=1.0), seed)
    share, other = drawn(seed, 1.0, 16)
    pasted = (found.inputs[0] != given.inputs[0]).any(dim=1)
    moved = torch.from_numpy(other) != torch.arange(16)
    assert not pasted[~moved].any()
    for index in moved.nonzero().flatten().tolist():
        rows, columns = pasted[index].any(dim=1), pasted[index].any(dim=0)
        assert torch.equal(pasted[index], rows[:, None] & columns[None, :])  # a box
        assert int(rows.sum()) <= 6 * (1 - share) ** 0.5 + 1
        assert int(columns.sum()) <= 10 * (1 - share) ** 0.5 + 1
        theirs = torch.where(pasted[index], given.inputs[0][other[index]], given.inputs[0][index])
        assert torch.equal(found.inputs[0][index], theirs)
        kept = 1 - pasted[index].float().mean()
        expected = torch.zeros(4)
        expected[given.targets[index]] += kept
        expected[given.targets[other[index]]] += 1 - kept
        torch.testing.assert_close(found.targets[index], expected)


def test_boxes_cover_all_positions_with_the_right_size() -> None:
    given = batch(8, (1, 32, 32))
    config, covered, shares = Augmentation(cutmix=1.0), torch.zeros(32, 32), []
    for seed in range(400):
        pasted = (mix(given, config, seed).inputs[0] != given.inputs[0]).any(0).any(0)
        covered += pasted
        shares.append(float(pasted.float().mean()))
    assert (covered > 0).all()
    # Beta(1, 1) has mean 1/2; a box around a uniform centre loses what lies beyond the border:
    # E[(side - side^2 / 4)^2] with side = sqrt(u), u uniform, is 1/2 - 1/5 + 1/48.
    assert np.mean(shares) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.03)


def test_each_batch_uses_mixup_or_cutmix() -> None:
    given, config = batch(), Augmentation(mixup=1.0, cutmix=1.0)
    is_cut = [bool(torch.isin(mix(given, config, seed).inputs[0], given.inputs[0]).all())
              for seed in range(200)]
    assert 70 < sum(is_cut) < 130


def test_without_mixing_no_random_number_is_drawn() -> None:
    given = batch()
    assert mix(given, Augmentation(), seed=0) is given


def test_several_inputs_are_mixed_in_the_same_way() -> None:
    one = batch()
    pair = one._replace(inputs=(one.inputs[0], 2 * one.inputs[0]))
    for config in (Augmentation(mixup=1.0), Augmentation(cutmix=1.0)):
        first, second = mix(pair, config, seed=3).inputs
        assert torch.equal(2 * first, second)


def test_the_loss_with_probabilities_is_the_mean_over_the_classes() -> None:
    logits, given = torch.randn(16, 4), batch()
    found = mix(given, Augmentation(mixup=1.0), seed=2)
    logs = torch.log_softmax(logits.double(), dim=1)
    for smoothing in (0.0, 0.2):
        targets = (1 - smoothing) * found.targets + smoothing / 4
        expected = -(targets * logs).sum(1).mean()
        loss = GoalLoss(Classification(), smoothing).loss((logits, logits), found)
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    hard = nn.functional.one_hot(given.targets, 4).float()
    goal = Classification()
    torch.testing.assert_close(goal.loss(logits, hard), goal.loss(logits, given.targets))


class Seen(Objective):
    goal = Classification()

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def loss(self, outputs: Any, batch: Any) -> Any:
        self.batches.append(batch)
        return GoalLoss(Classification()).loss(outputs, batch)


class SeenByRow(Seen):
    views, requires_sample_ids = None, True


def run(x: Any, module: nn.Module, objective: Any = None, **settings: Any) -> Any:
    y = torch.arange(len(x)) % 2
    seen = objective or Seen()
    train(module, Task((x, y), (x, y), (x[1:], y[1:])),
          Training(epochs=2, batch_size=8, compute="cpu", **settings), seen)
    return seen.batches


def test_each_training_step_is_mixed_differently() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    x = torch.randn(16, 1, 4, 4)
    batches = run(x, module, augment=Augmentation(mixup=1.0))
    shares = [float(b.targets.max(1).values.min()) for b in batches]
    assert len(set(shares)) == 4
    assert all(torch.allclose(b.targets.sum(1), torch.ones(8)) for b in batches)
    again = run(x, module, augment=Augmentation(mixup=1.0))
    assert all(torch.equal(a.inputs[0], b.inputs[0]) and torch.equal(a.targets, b.targets)
               for a, b in zip(batches, again, strict=True))


def test_inputs_that_cannot_be_mixed_raise_by_name() -> None:
    flat, words = torch.randn(16, 4), torch.randint(0, 5, (16, 3))
    embedding = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(UsageError, match=r"mixup cannot mix input 0 .* which is int64; expected "
                       r"floating point"):
        run(words, embedding, augment=Augmentation(mixup=0.2))
    with pytest.raises(UsageError, match=r"cutmix cannot cut input 0 .* of shape \(2, 4\); expected "
                       r"images \(N, C, H, W\)"):
        run(flat, nn.Linear(4, 2), augment=Augmentation(cutmix=1.0))
    with pytest.raises(UsageError, match="mixup cannot be used with a teacher cache, which "
                       "stores outputs for single samples only"):
        run(flat, nn.Linear(4, 2), SeenByRow(), augment=Augmentation(mixup=0.2))
