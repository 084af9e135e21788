from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgewright.errors import UsageError
from edgewright.goals import Classification
from edgewright.task import Batch, Task, TensorSplit, View
from edgewright.training import Compute, GoalLoss, Objective, Training, train
from edgewright.training._seeds import epoch_seed, reseed, step_seed
from edgewright.training._sharding import DataShard, check_sharding, split_batch


def split(count: int) -> Any:
    return TensorSplit(torch.arange(float(count)).view(count, 1), torch.zeros(count).long())


@given(count=st.integers(4, 60), size=st.integers(1, 9), world=st.integers(1, 3),
       start=st.integers(0, 4))
def test_shards_are_every_nth_sample_of_the_batches(count: Any, size: Any, world: Any,
                                                    start: Any) -> None:
    config = Training(batch_size=size * world)
    whole = list(split(count).batches(size * world, shuffle_seed=epoch_seed(7, 2)))
    for rank in range(world):
        shard = DataShard(split(count), config, seed=7, rank=rank, world=world)
        found = list(shard.batches(2, start))[:max(shard.steps - start, 0)]
        assert [b.rows.tolist() for b in found] == [
            b.rows[rank::world].tolist() for b in whole[start:shard.steps]]
        assert [shard.samples(start + i) for i in range(len(found))] == [
            len(b.rows) for b in whole[start:shard.steps]]


@pytest.mark.parametrize(("count", "settings", "world", "steps"), [
    (32, {}, 1, 4), (33, {}, 1, 4), (34, {}, 1, 5), (5, {}, 1, 1), (1, {}, 1, 1),
    (35, {"accumulate": 2}, 1, 4), (36, {"accumulate": 2}, 1, 5), (35, {}, 2, 4), (36, {}, 2, 5),
    (39, {"accumulate": 2}, 2, 4), (33, {"batch_size": 1}, 1, 33),
])
def test_a_last_batch_with_single_sample_parts_is_skipped(count: int, settings: dict[str, Any],
                                                          world: int, steps: int) -> None:
    config = Training(**{"batch_size": 8} | settings)
    assert DataShard(split(count), config, seed=0, world=world).steps == steps


def test_an_epoch_has_its_own_view_or_a_stored_one() -> Any:
    def numbers(views: Any, **settings: Any) -> Any:
        shard = DataShard(split(8), Training(batch_size=8, **settings), seed=5, views=views)
        return [next(shard.batches(epoch, 0)).view for epoch in range(5)]

    assert numbers(3) == [View(0), View(1), View(2), View(0), View(1)]
    assert numbers(None) == [View(epoch_seed(5, epoch)) for epoch in range(5)]
    assert numbers(3, augment=False) == [None] * 5


@given(count=st.integers(1, 40), pieces=st.integers(1, 9))
def test_parts_are_equal_in_size_and_make_up_the_batch(count: Any, pieces: Any) -> None:
    batch = Batch((torch.randn(count, 3), torch.arange(count)), torch.arange(count),
                  torch.arange(count) + 5, View(3))
    found = split_batch(batch, pieces)
    assert len(found) == min(count, pieces)
    sizes = [len(part.targets) for part in found]
    assert max(sizes) - min(sizes) <= 1
    assert all(torch.equal(torch.cat([part.inputs[i] for part in found]), batch.inputs[i])
               for i in range(2))
    assert torch.equal(torch.cat([part.rows for part in found]), batch.rows)
    assert torch.equal(torch.cat([part.targets for part in found]), batch.targets)
    assert {part.view for part in found} == {View(3)}


def test_batches_that_cannot_be_split_evenly_raise() -> None:
    with pytest.raises(UsageError, match=r"a batch_size of 9 cannot be split evenly over 2 devices; use a "
                       r"multiple of 2"):
        check_sharding(Training(batch_size=9, compute=Compute(devices=2)), 100)
    with pytest.raises(UsageError, match=r"5 training samples are too few for 3 devices; give "
                       r"at least 6"):
        check_sharding(Training(batch_size=9, compute=Compute(devices=3)), 5)


class Sizes(Objective):
    goal = Classification()

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def loss(self, outputs: Any, batch: Any) -> Any:
        self.sizes.append(len(batch.targets))
        return GoalLoss(Classification()).loss(outputs, batch)


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.1}, {"optimizer": "adamw", "lr": 0.01},
                                      {"augment": {"mixup": 1.0}}, {"ema": 0.8}])
@pytest.mark.parametrize("accumulate", [2, 3])
def test_gradient_accumulation_gives_the_same_step(settings: dict[str, Any],
                                                   accumulate: int) -> None:
    x = torch.randn(46, 5, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    task = Task((x, y), (x[:8], y[:8]), (x[8:], y[8:]))
    modules, records, sizes = [], [], Sizes()
    for count in (1, accumulate):
        torch.manual_seed(0)
        modules.append(nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 2)))
        config = Training(epochs=2, batch_size=16, accumulate=count, compute="cpu", **settings)
        records.append(train(modules[-1], task, config, GoalLoss(Classification()) if count == 1 else sizes))
    torch.testing.assert_close(modules[0].state_dict(), modules[1].state_dict(), rtol=1e-4,
                               atol=1e-6)
    for one, other in zip(*(record.history for record in records), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.val_accuracy == other.val_accuracy
    assert sizes.sizes == 2 * {2: [8, 8, 8, 8, 7, 7], 3: [6, 5, 5, 6, 5, 5, 5, 5, 4]}[accumulate]


def test_each_step_has_its_own_reproducible_random_numbers() -> None:
    seeds = [step_seed(seed, step, rank) for seed in (-1, 0, 1) for step in range(200)
             for rank in range(2)]
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)  # what torch takes of a seed
    drawn = []
    for step in (4, 5, 4):
        reseed(torch.device("cpu"), step_seed(0, step))
        drawn.append(torch.rand(8))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
