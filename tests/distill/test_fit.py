from __future__ import annotations

import pytest
import torch
from torch import nn

from edgewright.distill import Distillation, fit
from edgewright.program import Program
from edgewright.task import Task, load_task
from edgewright.training import Training, evaluate_module

CONFIG = Training(epochs=6, batch_size=64, lr=0.1, augment=False, accelerator="cpu")


def net(width):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.Conv2d(width, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1),
                         nn.Linear(width, 10))


@pytest.fixture(scope="module")
def task():
    return load_task("digits")


@pytest.fixture(scope="module")
def program(task):
    return Program.capture(net(16), task.train.example(2))


def test_a_program_learns_and_the_original_is_left_as_it_was(program, task):
    before = {name: tensor.clone() for name, tensor in program.state_dict().items()}
    trained = fit(program, task, CONFIG)
    assert evaluate_module(trained.module(), task.val)[0] > 0.7
    assert all(torch.equal(before[name], tensor) for name, tensor in program.state_dict().items())
    assert trained.state_dict().keys() == before.keys()


def test_an_interrupted_fit_resumes_to_the_same_program(program, task, tmp_path):
    class Stop(Exception):  # noqa: N818
        pass

    class Stopper:
        def start(self, epochs, steps, done): ...
        def advance(self, samples, loss): ...
        def note(self, text): ...
        def stop(self): ...

        def epoch(self, record):
            if record.epoch == 2:
                raise Stop

    whole = fit(program, task, CONFIG, seed=2)
    with pytest.raises(Stop):
        fit(program, task, CONFIG, seed=2, checkpoint=tmp_path / "c", progress=Stopper())
    again = fit(program, task, CONFIG, seed=2, checkpoint=tmp_path / "c")
    assert all(torch.equal(again.state_dict()[name], tensor)
               for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("form", ["program", "module"])
def test_a_teacher_is_a_program_or_a_module(program, task, form):
    teacher = fit(Program.capture(net(24), task.train.example(2)), task, CONFIG)
    student = fit(program, task, CONFIG, teacher if form == "program" else teacher.module(),
                  distillation=Distillation(alpha=1.0))
    agreement = [module(*task.val.example(200)).argmax(1) for module in (
        student.module(), teacher.module())]
    assert float((agreement[0] == agreement[1]).float().mean()) > 0.7


def test_without_settings_the_defaults_serve():
    x, y = torch.randn(20, 4), torch.arange(20) % 2
    program = Program.capture(nn.Linear(4, 2), x[:2])
    trained = fit(program, Task((x, y), test=(x, y)))
    assert not torch.equal(trained.state_dict()["weight"], program.state_dict()["weight"])
