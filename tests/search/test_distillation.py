"""What candidates learn from the teacher."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.allocation import JointAnswer
from edgewright.distill import CompiledTeacher
from edgewright.goals import Regression
from edgewright.pipeline import RunLog, RunSettings, capture_original
from edgewright.search._distillation import choose_distillation
from edgewright.search._recipes import write_recipe


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).relu()
        found: Tensor = self.head(x.mean((2, 3)))
        return found


@pytest.fixture
def settings() -> RunSettings:
    x, y = torch.randn(60, 1, 8, 8), torch.arange(60) % 3
    task = ew.Task((x[:40], y[:40]), (x[40:50], y[40:50]), test=(x[50:], y[50:]))
    original = capture_original(Small(), task, 0)
    return RunSettings(original, task, ew.Budget(size="50 %"), 0, "net", RunLog(quiet=True),
                       CompiledTeacher(original))


def test_a_classifier_learns_features_of_the_original(settings: RunSettings) -> None:
    assert choose_distillation(settings) == ew.Distillation(features="hints")


def test_nothing_else_learns_features(settings: RunSettings) -> None:
    other = CompiledTeacher(settings.original.copy())
    assert choose_distillation(replace(settings, teacher=other)) == ew.Distillation()
    x, y = torch.randn(60, 1, 8, 8), torch.randn(60, 3)
    regression = ew.Task((x, y), test=(x, y), goal=Regression())
    assert choose_distillation(replace(settings, task=regression)) == ew.Distillation()


def test_a_program_without_features_has_nothing_to_compare(settings: RunSettings) -> None:
    x, y = torch.randn(60, 8), torch.arange(60) % 3
    task = ew.Task((x, y), test=(x, y))
    flat = capture_original(nn.Linear(8, 3), task, 0)
    alone = replace(settings, task=task, original=flat, teacher=CompiledTeacher(flat))
    assert choose_distillation(alone) == ew.Distillation()


@pytest.mark.parametrize(("answer", "features"), [
    (None, "hints"),
    (JointAnswer(("layer1.0",), {}, {}, 0.0, {}, 0.0), "hints"),
    (JointAnswer((), {"first.weight": 2}, {}, 0.0, {}, 0.0), None),
])
def test_narrowed_candidates_learn_no_features(answer: JointAnswer | None,
                                               features: str | None) -> None:
    config = ew.Search(distillation=ew.Distillation(features="hints", temperature=2.0))
    recipe = write_recipe("", answer, config)
    assert recipe.distillation == ew.Distillation(features=features, temperature=2.0)
