"""What goals say of early exits: how sure one is, how good its decisions are, or why none can be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgewright.errors import UsageError
from edgewright.goals import (
    Bernoulli,
    Binary,
    Categorical,
    Classification,
    CustomGoal,
    Detection,
    Embedding,
    Goal,
    MultiLabel,
    MultiTask,
    PredictionKind,
    Reconstruction,
    Regression,
    Segmentation,
    Values,
    make_exit_confidence,
)
from edgewright.program import Program

N = 6


class Count:
    """A metric that is never asked."""

    higher_is_better = True

    def update(self, outputs: Any, targets: Any) -> None:
        """Add nothing."""

    def compute(self) -> float:
        """Zero."""
        return 0.0

    def reset(self) -> None:
        """Forget nothing."""


def custom(**kinds: PredictionKind) -> CustomGoal:
    return CustomGoal(lambda outputs, targets: outputs.mean(), {"count": Count()},
                      kinds={name.strip("_"): kind for name, kind in kinds.items()} or None)


SHAPES: list[tuple[Goal, tuple[int, ...]]] = [
    (Classification(), (4,)), (Binary(), ()), (Binary(), (1,)), (MultiLabel(), (5,)),
    (MultiLabel(), (1, 4, 4)), (Segmentation(ignore_index=255), (3, 4, 5)),
    (custom(_=Categorical()), (4,)), (custom(_=Bernoulli()), (2, 2))]


def targets_of(goal: Goal, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    if isinstance(goal, Segmentation):
        found = torch.randint(0, shape[0], (N, *shape[1:]), generator=draw)
        found[:, 0], found[0] = 255, 255  # the first sample has no pixel that counts
        return found
    if isinstance(goal, Classification):
        return torch.randint(0, shape[0], (N,), generator=draw)
    flat = isinstance(goal, Binary)
    return torch.randint(0, 2, (N, *(() if flat else shape)), generator=draw).float()


@pytest.mark.parametrize(("goal", "shape"), SHAPES)
@given(seed=st.integers(0, 2**31))
def test_confidence_and_quality_are_shares_of_each_sample(goal: Goal, shape: tuple[int, ...],
                                                          seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    early, full = (3 * torch.randn(N, *shape, generator=draw) for _ in range(2))
    targets = targets_of(goal, shape, draw)
    assert goal.exit_obstacle == ""
    for found in (goal.exit_confidence(early), goal.exit_quality(early, full, targets)):
        assert found.shape == (N,)
        assert bool(((found >= 0) & (found <= 1 + 1e-6)).all())
    itself = goal.exit_quality(full, full, targets)
    assert bool((itself - goal.exit_quality(early, full, targets)).abs().max() <= 1)
    sure = goal.exit_confidence(early)
    assert bool((goal.exit_confidence(10 * early) >= sure - 1e-6).all())
    assert bool((goal.exit_confidence(0 * early) <= sure + 1e-6).all())


def test_quality_by_hand() -> None:
    logits = torch.tensor([[[[9.0, 0.0], [0.0, 9.0]], [[0.0, 9.0], [9.0, 0.0]]]])  # 0 1 / 1 0
    masks = torch.tensor([[[0, 0], [1, 255]]])
    assert float(Segmentation(ignore_index=255).exit_quality(logits, logits, masks)) == (
        pytest.approx(2 / 3))
    assert float(Segmentation().exit_quality(logits, logits, masks.clamp(max=1))) == 0.5
    unclear = torch.full((1, 2, 2), 255)
    assert float(Segmentation(ignore_index=255).exit_quality(logits, logits, unclear)) == 1.0
    answers = torch.tensor([[1.0, -1.0, 2.0, -2.0]])
    assert float(MultiLabel().exit_quality(answers, answers, torch.tensor([[1.0, 1, 1, 0]]))) == 0.75
    assert Binary().exit_quality(torch.tensor([[2.0], [-1.0]]), answers,
                                 torch.tensor([1.0, 1.0])).tolist() == [1.0, 0.0]
    early, full = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert custom(_=Categorical()).exit_quality(early, full, None).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("goal", "reason"), [
    (Regression(), "a value does not tell how wrong it is"),
    (Reconstruction(), "a value does not tell how wrong it is"),
    (Embedding(), "a direction does not tell how wrong it is"),
    (Detection(), "whether an object was missed"),
    (MultiTask({"a": Classification(), "b": Regression()}), "it has 2 outputs, an exit returns one"),
    (custom(), "its kinds do not say what its output means"),
    (custom(_=Values()), "a value does not tell how wrong it is"),
    (custom(a=Categorical(), b=Categorical()), "it has 2 outputs, an exit returns one")])
def test_a_goal_without_confidence_says_why(goal: Goal, reason: str) -> None:
    assert reason in goal.exit_obstacle
    with pytest.raises(UsageError, match=f"the goal {goal.name} cannot have early exits: .*{reason}"):
        goal.exit_confidence(torch.zeros(N, 3))


@pytest.mark.parametrize(("goal", "shape"), [pair for pair in SHAPES
                                             if not isinstance(pair[0], Classification)])
def test_the_confidence_is_captured_for_any_batch(goal: Goal, shape: tuple[int, ...]) -> None:
    module = make_exit_confidence(goal)
    assert module is not None
    program = Program.capture(module, torch.randn(2, *shape))
    for count in (1, 5):
        outputs = torch.randn(count, *shape)
        torch.testing.assert_close(program.run(outputs), goal.exit_confidence(outputs))
