from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.distill import (
    Distillation,
    DistillationLoss,
    SelfDistillationLoss,
    as_teacher,
    cache_teacher,
    fit,
    make_objective,
)
from edgewright.errors import ModelError, StorageError, UsageError
from edgewright.goals import Classification, Goal
from edgewright.graph import mark_sparse
from edgewright.program import Program
from edgewright.task import Batch, Task, load_task
from edgewright.training import GoalLoss, Objective, Training, evaluate_module

CONFIG = Training(epochs=6, batch_size=64, lr=0.1, augment=False, compute="cpu")


def net(width: Any) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.Conv2d(width, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1),
                         nn.Linear(width, 10))


@pytest.fixture(scope="module")
def task() -> Any:
    return load_task("digits")


@pytest.fixture(scope="module")
def program(task: Any) -> Any:
    return Program.capture(net(16), task.train.example(2))


def test_a_program_learns_and_the_original_is_unchanged(program: Any, task: Any) -> None:
    before = {name: tensor.clone() for name, tensor in program.state_dict().items()}
    trained = fit(program, task, CONFIG)
    assert evaluate_module(trained.module(), task.val, task.goal)[0].value > 0.7
    assert all(torch.equal(before[name], tensor) for name, tensor in program.state_dict().items())
    assert trained.state_dict().keys() == before.keys()


def test_an_interrupted_fit_resumes_to_the_same_program(program: Any, task: Any,
                                                        tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    class Stopper:
        def start(self, epochs: Any, steps: Any, done: Any) -> None: ...
        def advance(self, samples: Any, loss: Any) -> None: ...
        def time_left(self, seconds: float) -> None: ...
        def note(self, text: str) -> None: ...
        def stop(self) -> None: ...

        def epoch(self, record: Any) -> None:
            if record.epoch == 2:
                raise Stop

    whole = fit(program, task, CONFIG, seed=2)
    with pytest.raises(Stop):
        fit(program, task, CONFIG, seed=2, checkpoint=tmp_path / "c", progress=Stopper())
    again = fit(program, task, CONFIG, seed=2, checkpoint=tmp_path / "c")
    assert all(torch.equal(again.state_dict()[name], tensor)
               for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("form", ["program", "module"])
def test_a_teacher_is_a_program_or_a_module(program: Any, task: Any, form: str) -> None:
    teacher = fit(Program.capture(net(24), task.train.example(2)), task, CONFIG)
    student = fit(program, task, CONFIG, teacher if form == "program" else teacher.module(),
                  distillation=Distillation(alpha=1.0))
    agreement = [module(*task.val.example(200)).argmax(1) for module in (
        student.module(), teacher.module())]
    assert float((agreement[0] == agreement[1]).float().mean()) > 0.7


def test_settings_are_optional() -> None:
    x, y = torch.randn(20, 4), torch.arange(20) % 2
    program = Program.capture(nn.Linear(4, 2), x[:2])
    trained = fit(program, Task((x, y), test=(x, y)))
    assert not torch.equal(trained.state_dict()["weight"], program.state_dict()["weight"])


def weights_of(program: Program) -> Any:
    return nn.utils.parameters_to_vector(program.module().parameters())


@pytest.mark.parametrize("features", ["hints", "attention", "relational", "similarity"])
def test_features_and_outputs_are_learned_together(program: Any, task: Any, features: str) -> None:
    teacher = Program.capture(net(24), task.train.example(2))
    config = Training(epochs=1, batch_size=64, lr=0.01, compute="cpu")
    plain = fit(program, task, config, teacher)
    found = fit(program, task, config, teacher, distillation=Distillation(features=features))
    assert found.state_dict().keys() == program.state_dict().keys()
    assert not torch.equal(weights_of(found), weights_of(plain))


def test_the_features_of_a_module_are_those_of_its_program(program: Any, task: Any) -> None:
    module = net(24)
    settings = Distillation(features="hints", pairs=(("relu_1", "relu"),))
    config = Training(epochs=1, batch_size=256, compute="cpu")
    found = [weights_of(fit(program, task, config, teacher, distillation=settings))
             for teacher in (module, Program.capture(module, task.train.example(2)))]
    torch.testing.assert_close(*found)


def test_sparse_zeros_stay_in_feature_distillation(program: Any, task: Any) -> None:
    sparse = program.copy()
    sparse.graph_module.get_parameter("3.weight").data[::2] = 0
    mark_sparse(sparse.graph_module, ["3.weight"])
    trained = fit(sparse, task, Training(epochs=1, batch_size=256, compute="cpu"), net(24),
                  distillation=Distillation(features="attention"))
    assert trained.sparsity == {"3.weight": 0.5}


def test_a_cache_is_made_and_then_used(program: Any, task: Any, tmp_path: Path) -> None:
    teacher, path = Program.capture(net(24), task.train.example(2)), tmp_path / "cache"
    config = Training(epochs=3, batch_size=64, lr=0.05, compute="cpu")
    first = fit(program, task, config, teacher, cache=path, views=2)
    made = path.stat().st_mtime_ns
    second = fit(program, task, config, teacher, cache=path, views=2)
    cached = cache_teacher(as_teacher(teacher), task, path, views=2)
    third = fit(program, task, config, cached)
    assert path.stat().st_mtime_ns == made
    assert torch.equal(weights_of(first), weights_of(second))
    assert torch.equal(weights_of(first), weights_of(third))
    with pytest.raises(StorageError, match="for 2 views, not 3 views; delete it, or give another path"):
        fit(program, task, config, teacher, cache=path, views=3)


def test_without_augmentation_the_unmodified_samples_are_cached(program: Any, task: Any,
                                                                tmp_path: Path) -> None:
    teacher = net(24)
    config = CONFIG.replace(epochs=2)
    kept = fit(program, task, config, teacher, cache=tmp_path / "cache")
    live = fit(program, task, config, teacher)
    start = weights_of(program)
    assert (weights_of(kept) - weights_of(live)).norm() < 0.02 * (weights_of(live) - start).norm()


def test_a_cache_raises_for_unsupported_settings(program: Any, task: Any, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with pytest.raises(UsageError, match="stores a teacher's outputs, but there is no teacher"):
        fit(program, task, cache=path)
    with pytest.raises(UsageError, match="features='hints' cannot be learned from a teacher cache"):
        fit(program, task, teacher=net(24), cache=path,
            distillation=Distillation(features="hints"))
    for mixing in ({"mixup": 0.2}, {"cutmix": 1.0}):
        with pytest.raises(UsageError, match=f"{next(iter(mixing))} cannot be used with a teacher "
                           "cache"):
            fit(program, task, Training(compute="cpu", augment=mixing), net(24), cache=path)
    assert not path.exists()


def test_different_classes_raise_before_anything_is_cached(program: Any, task: Any,
                                                           tmp_path: Path) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    with pytest.raises(ModelError, match=r"Sequential \w+ returns \(7,\) logits per sample, the "
                       r"student \(10,\); they must have the same classes"):
        fit(program, task, CONFIG, teacher, cache=tmp_path / "cache")
    with pytest.raises(ModelError, match=r"the teacher's output has shape \(7, 7\)"):
        fit(program, task, CONFIG, teacher)
    assert not list(tmp_path.iterdir())


def test_several_teachers_form_an_ensemble(program: Any, task: Any) -> None:
    teachers = [net(24), Program.capture(net(20), task.train.example(2))]
    config = Training(epochs=1, batch_size=256, compute="cpu")
    both = fit(program, task, config, teachers)
    assert not torch.equal(weights_of(both), weights_of(fit(program, task, config, teachers[0])))


def test_the_objective_depends_on_the_teacher() -> None:
    assert make_objective(None, label_smoothing=0.1).name == GoalLoss(Classification(), 0.1).name
    assert isinstance(make_objective(nn.Identity()), DistillationLoss)
    alone = make_objective(None, distillation=Distillation(self_weight=0.3))
    assert isinstance(alone, SelfDistillationLoss)
    assert alone.name.startswith(f"SelfDistillationLoss({GoalLoss(Classification()).name}, ")


class Focal(Objective):
    """An objective of the user's own."""

    def __init__(self, goal: Goal | None = None) -> None:
        self._goal = goal

    @property
    def goal(self) -> Goal | None:
        return self._goal

    def loss(self, outputs: tuple[Any, ...], batch: Batch) -> Tensor:
        chosen = outputs[-1].log_softmax(-1).gather(1, batch.targets[:, None])
        return -((1 - chosen.exp()).square() * chosen).mean()


def test_an_objective_of_ones_own_is_minimized() -> None:
    x = torch.randn(64, 4)
    y = (x[:, 0] > 0).long()
    task, program = Task((x, y), (x[:20], y[:20]), (x[1:], y[1:])), Program.capture(nn.Linear(4, 2), x[:2])
    training = Training(epochs=20, batch_size=16, lr=0.01, optimizer="adamw", compute="cpu")
    batch = Batch((x,), y, torch.arange(64))
    trained = fit(program, task, training, objective=Focal())
    before, after = (float(Focal().loss((one.run(x),), batch)) for one in (program, trained))
    assert after < 0.5 * before
    for arguments, named in (({"teacher": nn.Linear(4, 2)}, "a teacher"), ({"cache": "c"}, "a cache"),
                             ({"distillation": Distillation(self_weight=1)}, "distillation settings"),
                             ({"training": training.replace(label_smoothing=0.1)}, "label_smoothing=0.1")):
        with pytest.raises(UsageError, match=f"so {named} would have no effect; omit it, or the objective"):
            fit(program, task, **arguments, objective=Focal(task.goal))
