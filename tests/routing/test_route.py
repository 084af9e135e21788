"""A gate learns which branch each sample takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import EdgewrightWarning, ModelError, UsageError
from edgewright.pipeline import make_bundle
from edgewright.program import Program
from edgewright.routing import Routing, route
from edgewright.runtime import load
from edgewright.task import Task
from edgewright.training import Augmentation, Training

PLAIN = Training(epochs=20, lr=0.05, batch_size=64, augment=Augmentation(policy=None))
FAST = Routing(training=PLAIN, finetuning=PLAIN.replace(epochs=2, lr=0.01))


def samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Half of the samples (the first feature is positive) have a label that no line separates."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    hard, easy = x[:, 1] * x[:, 2] > 0, x[:, 3] > 0
    return x, torch.where(x[:, 0] > 0, hard, easy).long()


TASK = Task(samples(2000, 0), samples(400, 1), samples(400, 2))


def parts(seed: int = 3) -> tuple[nn.Module, list[nn.Module]]:
    torch.manual_seed(seed)
    return nn.Linear(4, 2), [nn.Linear(4, 2), nn.Sequential(
        nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))]


def shares(program: Program, x: Tensor) -> Tensor:
    state = program.state_dict()
    return (x @ state["gate.weight"].T + state["gate.bias"]).argmax(1).double().mean()


@pytest.fixture(scope="module")
def learned() -> Program:
    return route(*parts(), TASK, FAST)


def test_hard_samples_take_the_large_branch(learned: Program) -> None:
    x, y = samples(400, 2)
    state = learned.state_dict()
    taken = (x @ state["gate.weight"].T + state["gate.bias"]).argmax(1)
    assert float((taken == (x[:, 0] > 0)).double().mean()) > 0.9
    assert float((learned.run(x).argmax(1) == y).double().mean()) > 0.9


def test_the_session_runs_only_the_branch_taken(learned: Program, tmp_path: Any) -> None:
    manifest = make_bundle(learned, tmp_path / "routed.edge", TASK)
    profile, = manifest.report.routes
    assert sum(profile.shares) == pytest.approx(1)
    assert profile.macs == (8.0, 64 * 4 + 128)
    assert all(0.3 < share < 0.7 for share in profile.shares)
    mean = 8 + sum(share * float(macs or 0) for share, macs
                   in zip(profile.shares, profile.macs, strict=True))
    assert manifest.report.compressed["macs"] == pytest.approx(mean)
    session = load(tmp_path / "routed.edge")
    x = samples(400, 2)[0]
    whole = session(x.numpy())
    assert whole.computed == (400, round(400 * profile.shares[0]), round(400 * profile.shares[1]))
    assert np.allclose(whole.output, learned.run(x).numpy(), atol=1e-5)
    for index in range(10):
        one = session(x[index:index + 1].numpy())
        assert sorted(one.computed[1:]) == [0, 1]
        assert np.allclose(one.output[0], whole.output[index], atol=1e-5)


def test_a_larger_weight_of_the_cost_uses_the_cheap_branch_more(learned: Program) -> None:
    x = samples(400, 2)[0]
    cheap = route(*parts(), TASK, FAST.replace(cost_weight=0.6))
    assert float(shares(cheap, x)) < float(shares(learned, x)) - 0.05


def test_the_same_seed_gives_the_same_program() -> None:
    short = Routing(training=PLAIN.replace(epochs=1), finetuning=None)
    first, second = (route(*parts(), TASK, short, seed=3).state_dict() for _ in range(2))
    other = route(*parts(), TASK, short, seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["gate.weight"], other["gate.weight"])


def test_gate_and_branches_may_share_a_trunk_and_return_several_outputs() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 2), nn.Linear(8, 3)

        def forward(self, h: Tensor) -> Any:
            return {"sign": self.a(h), "size": self.b(h)}

    x = torch.randn(60, 4)
    targets = {"sign": (x[:, 0] > 0).long(), "size": torch.arange(60) % 3}
    task = Task((x, targets), test=(x, targets),
                goal={"sign": "classification", "size": "classification"})
    program = route(nn.Linear(8, 2), [Heads(), Heads()], task, Routing(
        training=PLAIN.replace(epochs=1), finetuning=None), trunk=nn.Linear(4, 8))
    assert {name: tuple(value.shape) for name, value in program.run(x).items()} == {
        "sign": (60, 2), "size": (60, 3)}


def test_the_modules_are_not_changed() -> None:
    gate, branches = parts()
    before = [value.clone() for module in (gate, *branches) for value in module.parameters()]
    route(gate, branches, TASK, Routing(training=PLAIN.replace(epochs=1), finetuning=None))
    after = [value for module in (gate, *branches) for value in module.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_branch_that_nothing_takes_is_reported() -> None:
    config = Routing(training=PLAIN.replace(epochs=3), finetuning=None, cost_weight=50,
                     balance_weight=0)
    with pytest.warns(EdgewrightWarning, match="no validation sample takes the branch 1; give the bal"):
        route(*parts(), TASK, config)


@pytest.mark.parametrize(("gate", "branches", "error", "message"), [
    (nn.Linear(4, 1), [nn.Linear(4, 2)], UsageError, "1 branches leave a gate no choice"),
    (nn.Linear(4, 3), [nn.Linear(4, 2), nn.Linear(4, 2)], ModelError,
     "gate returns torch.float32 of shape \\(7, 3\\), expected logits of shape \\(7, 2\\)"),
    (nn.Linear(4, 2), [nn.Linear(4, 2), nn.Linear(4, 3)], ModelError,
     "branch 1 returns float32 \\(7, 3\\), branch 0 float32 \\(7, 2\\)"),
])
def test_parts_that_do_not_fit_are_refused(gate: Any, branches: Any, error: Any,
                                           message: str) -> None:
    with pytest.raises(error, match=message):
        route(gate, branches, TASK, FAST)


def test_mixed_samples_are_refused() -> None:
    mixing = FAST.replace(training=Training(augment=Augmentation(mixup=0.2)))
    with pytest.raises(UsageError, match="mixup cannot be used while a gate learns"):
        route(*parts(), TASK, mixing)
    with pytest.raises(UsageError, match="temperatures must be above 0"):
        route(*parts(), TASK, FAST.replace(temperature=(1.0, 0.0)))
