"""The loss of a gate, against a slow, obvious reference."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from edgewright.goals import Classification
from edgewright.routing._candidates import Candidates
from edgewright.routing._config import Routing
from edgewright.routing._objective import RouteObjective
from edgewright.task import Batch
from edgewright.training import Step

SCORES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]])
OUTPUTS = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
BATCH = Batch((), torch.tensor([0, 3, 1]), torch.arange(3))


def loss(config: Routing, progress: float) -> float:
    objective = RouteObjective(Classification(), (100, 400), config)
    for hook in objective.hooks:
        hook.after_step(Step(index=round(progress * 10) - 1, total=10, lr=0.1))
    torch.manual_seed(0)
    return float(objective.loss((Candidates(SCORES, tuple(OUTPUTS)),), BATCH))


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_loss_is_the_mixtures_plus_cost_and_balance(progress: float) -> None:
    config = Routing(cost_weight=0.3, balance_weight=0.7, temperature=(2.0, 0.5))
    torch.manual_seed(0)
    noise = torch.empty_like(SCORES).exponential_()
    mixture = []
    for sample in range(3):
        perturbed = [(float(SCORES[sample, k]) - math.log(float(noise[sample, k])))
                     / (2.0 * 0.25 ** progress) for k in range(2)]
        total = sum(map(math.exp, perturbed))
        mixture.append(math.exp(perturbed[0]) / total * OUTPUTS[0, sample]
                       + math.exp(perturbed[1]) / total * OUTPUTS[1, sample])
    shares = SCORES.softmax(1)
    cost = sum(float(p[0]) * 0.25 + float(p[1]) for p in shares) / 3
    means = [float(shares[:, k].mean()) for k in range(2)]
    imbalance = 2 * sum(mean * mean for mean in means) - 1
    expected = (float(F.cross_entropy(torch.stack(mixture), BATCH.targets)) + 0.3 * cost
                + 0.7 * (1 - progress) * imbalance)
    assert loss(config, progress) == pytest.approx(expected, rel=1e-5)


def test_an_equal_use_costs_nothing_and_a_collapse_does() -> None:
    balanced, collapsed = (RouteObjective(Classification(), (0, 0), Routing(
        cost_weight=0, balance_weight=weight)) for weight in (0.0, 1.0))
    outputs = torch.zeros(2, 4, 3)
    batch = Batch((), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    for scores, expected in ((torch.tensor([[9.0, -9], [-9, 9], [9, -9], [-9, 9]]), 0.0),
                             (torch.tensor([[9.0, -9]]).repeat(4, 1), 1.0)):
        given = (Candidates(scores, tuple(outputs)),)
        difference = float(collapsed.loss(given, batch)) - float(balanced.loss(given, batch))
        assert difference == pytest.approx(expected, abs=1e-5)


def test_the_progress_is_restored() -> None:
    first, second = (RouteObjective(Classification(), (1, 2), Routing()).hooks[0]
                     for _ in range(2))
    first.after_step(Step(index=2, total=4, lr=0.1))
    second.load_state(first.state())
    assert second.state()["share"] == 0.75
