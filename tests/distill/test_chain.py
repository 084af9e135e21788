from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.distill import fit, fit_chain
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import Training

CONFIG = Training(epochs=2, batch_size=16, compute="cpu")


@pytest.fixture(scope="module")
def task() -> Any:
    x = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
    return Task((x, (x[:, 0] > 0).long()), (x, (x[:, 0] > 0).long()), (x[1:], torch.ones(79).long()))


def programs(task: Task, *widths: Any) -> Any:
    torch.manual_seed(0)
    return [Program.capture(nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2)),
                            task.train.example(2)) for width in widths]


def same(one: Any, other: Any) -> Any:
    return all(torch.equal(value, other.state_dict()[name])
               for name, value in one.state_dict().items())


def test_each_program_learns_from_the_previous_one(task: Any) -> None:
    teacher, assistant, student = programs(task, 16, 8, 2)
    chain = fit_chain([assistant, student], task, CONFIG, teacher, seed=1)
    by_hand = fit(assistant, task, CONFIG, teacher, seed=1)
    assert same(chain[0], by_hand)
    assert same(chain[1], fit(student, task, CONFIG, by_hand, seed=1))
    assert not same(chain[1], fit(student, task, CONFIG, teacher, seed=1))


def test_without_a_teacher_the_first_learns_from_the_labels(task: Any) -> None:
    assistant, student = programs(task, 8, 2)
    chain = fit_chain([assistant, student], task, CONFIG)
    assert same(chain[0], fit(assistant, task, CONFIG))


def test_an_interrupted_chain_resumes(task: Any, tmp_path: Path) -> None:
    assistant, student = programs(task, 8, 2)
    whole = fit_chain([assistant, student], task, CONFIG)
    fit_chain([assistant], task, CONFIG, checkpoints=tmp_path)
    again = fit_chain([assistant, student], task, CONFIG, checkpoints=tmp_path)
    assert all(map(same, whole, again))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.ckpt", "1.ckpt"]


def test_an_empty_chain_raises(task: Any) -> None:
    with pytest.raises(UsageError, match="a chain needs at least one program"):
        fit_chain([], task)
