from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgewright.distill import (
    FEATURE_LOSSES,
    Distillation,
    DistillationLoss,
    FeatureStudent,
    ModuleTeacher,
    find_pairs,
    fit,
    make_student,
)
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import ConstrainedObjective, StepHook, Training, evaluate_module, train

CONFIG = Training(epochs=2, batch_size=32, lr=0.02, augment=False, compute="cpu")


@pytest.fixture
def shown(halved: Program, deep_pyramid: Program) -> Any:
    return FeatureStudent(halved, find_pairs(halved, deep_pyramid), projected=True)


def test_in_training_features_come_before_the_logits_as_wide_as_the_teachers(shown: Any) -> None:
    *features, logits = shown.train()(torch.randn(2, 1, 8, 8))
    assert [feature.shape for feature in features] == [(2, 12, 8, 8), (2, 24, 4, 4), (2, 48, 2, 2)]
    assert logits.shape == (2, 4)


def test_in_evaluation_only_the_programs_outputs_are_returned(shown: Any, halved: Program) -> None:
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        logits = shown.eval()(x)
    torch.testing.assert_close(logits, halved.run(x))


def test_the_network_state_is_the_programs(shown: Any, halved: Program) -> None:
    state = shown.network_state()
    assert state.keys() == halved.state_dict().keys()
    assert all(torch.equal(halved.with_state(state).state_dict()[name], value)
               for name, value in halved.state_dict().items())


def test_projections_exist_if_requested_and_widths_differ(halved: Program, deep_pyramid: Program,
                                                                             tokens: Program) -> None:
    pairs = find_pairs(halved, deep_pyramid)
    assert all(isinstance(one, nn.Conv2d) and one.kernel_size == (1, 1) for one in
               FeatureStudent(halved, pairs, projected=True).projections)
    for untouched in (FeatureStudent(halved, pairs, projected=False),
                      FeatureStudent(halved, find_pairs(halved, halved), projected=True)):
        assert all(isinstance(one, nn.Identity) for one in untouched.projections)
    thin = make_student(tokens, width=0.5)
    linear = FeatureStudent(thin, find_pairs(thin, tokens), projected=True).train()
    assert all(isinstance(one, nn.Linear) for one in linear.projections)
    assert linear(torch.randn(2, 1, 8, 8))[0].shape == (2, 16, 8)


def test_projections_depend_on_the_seed_and_keep_the_global_generator(halved: Program,
                                                                      deep_pyramid: Program) -> None:
    pairs = find_pairs(halved, deep_pyramid)
    torch.manual_seed(7)
    one, again, other = (FeatureStudent(halved, pairs, projected=True, seed=seed).projections
                         for seed in (0, 0, 1))
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(one.get_parameter("0.weight"), again.get_parameter("0.weight"))
    assert not torch.equal(one.get_parameter("0.weight"), other.get_parameter("0.weight"))


def to_the_end(objective: Any) -> Any:
    """Keeps no weights of before the training, however good they are."""
    return ConstrainedObjective(objective, (StepHook(),))


@pytest.mark.parametrize("features", FEATURE_LOSSES)
def test_the_loop_trains_it_and_its_projections(halved: Program, deep_pyramid: Program,
                                                quadrant_task: Task, features: Any) -> None:
    settings = Distillation(features=features, feature_weight=1.0)
    method = FEATURE_LOSSES[features]
    pairs = find_pairs(halved, deep_pyramid)
    network = FeatureStudent(halved, pairs, projected=method.projected)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    teacher = ModuleTeacher(deep_pyramid, taps=[pair.teacher for pair in pairs])
    record = train(network, quadrant_task, CONFIG, to_the_end(DistillationLoss(
        teacher, settings, features=len(pairs))), seed=0)
    after = network.state_dict()
    assert len(record.history) == 2
    assert record.history[1].loss < record.history[0].loss
    assert all(not torch.equal(before[name], after[name]) for name in before if "weight" in name)
    trained = halved.with_state(network.network_state())
    assert evaluate_module(
        trained.module(), quadrant_task.val, quadrant_task.goal) == evaluate_module(
        network, quadrant_task.val, quadrant_task.goal)


def test_hints_bring_the_features_together(halved: Program, deep_pyramid: Program,
                                           quadrant_task: Task) -> Any:
    """The distance falls by far more than it does when the logits alone are learnt."""
    pairs = find_pairs(halved, deep_pyramid)
    x = quadrant_task.val.example(80)
    taps = [pair.teacher for pair in pairs]
    from_teacher = ModuleTeacher(deep_pyramid, taps).teach(
        next(quadrant_task.val.batches(80))).features

    def distance(weight: Any) -> Any:
        network = FeatureStudent(halved, pairs, projected=True)
        settings = Distillation(features="hints", feature_weight=weight)
        train(network, quadrant_task, CONFIG, to_the_end(DistillationLoss(
            ModuleTeacher(deep_pyramid, taps), settings, features=len(pairs))))
        with torch.no_grad():
            features = network.train()(*x)[:3]
        return sum(float(FEATURE_LOSSES["hints"].loss(mine, theirs))
                   for mine, theirs in zip(features, from_teacher, strict=True))

    assert distance(10.0) < 0.7 * distance(1e-6)


def test_fit_learns_features_and_returns_the_program_without_projections(halved: Program,
                                                                         deep_pyramid: Program,
                                                                         quadrant_task: Task) -> None:
    trained = fit(halved, quadrant_task, CONFIG, deep_pyramid,
                  distillation=Distillation(features="attention"))
    assert trained.state_dict().keys() == halved.state_dict().keys()
    assert [node.name for node in trained.graph.nodes] == [node.name for node in halved.graph.nodes]
    assert isinstance(quadrant_task, Task)
