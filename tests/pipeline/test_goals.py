"""Runs whose goal is not a classification, and goals that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.errors import DataError, EdgewrightError, UsageError
from edgewright.pipeline import Recipe, Result

X = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
Y = X.sum(1)
AS_IT_IS = Recipe(name="as-it-is")


class Own:
    higher_is_better = False

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        pass

    def compute(self) -> Any:
        if self.value is None:
            raise ValueError("no")
        return self.value

    def reset(self) -> None:
        pass


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square().mean()


def make_task(goal: Any, targets: Tensor = Y) -> ew.Task:
    return ew.Task((X[:100], targets[:100]), test=(X[100:], targets[100:]), goal=goal)


def make_model(outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, outputs))


@pytest.fixture(scope="module")
def regressions(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    task = make_task(ew.Regression(unit="m"))
    folder = tmp_path_factory.mktemp("regressions")
    return [ew.compress(make_model(), task, recipe=recipe, out=folder / name, quiet=True)
            for name, recipe in (("float", AS_IT_IS), ("int8", Recipe.by_name("fast")))]


REFUSED: dict[str, tuple[Any, Tensor, int, type[EdgewrightError], str]] = {
    "metric raises": (ew.CustomGoal(squares, {"own": Own(None)}), Y, 1, UsageError,
                      "the metric 'own' cannot be computed: ValueError: no"),
    "metric of several numbers": (ew.CustomGoal(squares, {"own": Own(torch.zeros(2))}), Y, 1,
                                  UsageError, "the metric 'own' returned tensor"),
    "loss is NaN": (ew.CustomGoal(lambda outputs, targets: outputs.sum() * torch.nan,
                                  {"own": Own()}), Y, 1, UsageError, "is nan on the first"),
    "loss of nothing": (ew.CustomGoal(lambda outputs, targets: torch.zeros((), requires_grad=True),
                                      {"own": Own()}), Y, 1, UsageError, "has no gradient"),
    "target of another shape": ("regression", X[:, :3], 1, DataError, "the model's prediction asks"),
    "target of another type": ("classification", Y, 3, DataError, "are float32; expected integers"),
    "target is NaN": ("regression", Y * torch.nan, 1, DataError, "holds NaN or infinity"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_before_anything_is_written(name: str,
                                                                   tmp_path: Path) -> None:
    goal, targets, outputs, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message) as caught:
        ew.compress(make_model(outputs), make_task(goal, targets), recipe="fast",
                    out=tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value).strip().split("tensor(")[0]
    assert not (tmp_path / "run").exists()


def test_a_metric_of_no_number_is_named(tmp_path: Path) -> None:
    task = make_task(ew.CustomGoal(squares, {"own": Own(float("nan"))}))
    with pytest.raises(UsageError, match="the metric 'own' of the exported file is nan; expected"):
        ew.compress(make_model(), task, recipe=AS_IT_IS, out=tmp_path / "run", quiet=True)


def test_anomalies_need_both_kinds_to_be_measured(tmp_path: Path) -> None:
    task = make_task(ew.Reconstruction(anomalies=True), torch.zeros(120))
    with pytest.raises(DataError, match="all have target 0; give val and test splits with both"):
        ew.compress(make_model(6), task, recipe=AS_IT_IS, out=tmp_path / "run", quiet=True)


def test_a_limit_on_a_value_is_in_its_unit_or_relative(regressions: list[Result],
                                                       tmp_path: Path) -> None:
    task = make_task(ew.Regression(unit="m"))
    original = regressions[0].manifest.report.original["mae"]
    budget = ew.Budget(max_drop="1 %", metrics={"mae": f"<= {original / 2}"})
    result = ew.compress(make_model(), task, budget, AS_IT_IS, tmp_path / "run", quiet=True)
    assert [breach.constraint for breach in result.manifest.report.breaches] == ["mae"]
    wrong = ew.Budget(metrics={"mae": ">= 1"})
    with pytest.raises(UsageError, match="mae"):
        ew.compress(make_model(), task, wrong, AS_IT_IS, tmp_path / "wrong", quiet=True)


def test_a_cascade_needs_a_confidence(regressions: list[Result], tmp_path: Path) -> None:
    first, second = (result.bundle for result in regressions)
    with pytest.raises(UsageError, match="the outputs of the goal regression are no logits of one class"):
        ew.cascade(first, second, make_task(ew.Regression(unit="m")), tmp_path / "both.edge",
                   quiet=True)
    with pytest.raises(UsageError, match="the bundles' goal is regression, the task's binary"):
        ew.cascade(first, second, make_task("binary", (Y > 0).int()), tmp_path / "both.edge",
                   quiet=True)


def test_regressions_are_variants_of_one_bundle(regressions: list[Result], tmp_path: Path) -> None:
    first, second = (result.bundle for result in regressions)
    ew.combine({"float": first, "int8": second}, tmp_path / "both.edge")
    session = ew.load(tmp_path / "both.edge")
    for name, path in (("float", first), ("int8", second)):
        session.point = name
        np.testing.assert_array_equal(session(X[:5].numpy()).output,
                                      ew.load(path)(X[:5].numpy()).output)


def test_a_run_with_another_loss_is_another_run(tmp_path: Path) -> None:
    def run(factor: float) -> Result:
        goal = ew.CustomGoal(lambda outputs, targets: factor * squares(outputs, targets),
                             {"own": Own()})
        return ew.compress(make_model(), make_task(goal), recipe=AS_IT_IS, out=tmp_path / "run",
                           quiet=True)

    first = run(1.0)
    written = first.bundle.stat().st_mtime_ns
    assert run(1.0).bundle.stat().st_mtime_ns == written
    with pytest.raises(EdgewrightError, match="data"):
        run(2.0)
