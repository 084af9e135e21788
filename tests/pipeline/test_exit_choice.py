"""Exits are shipped where they pay, and the network behind them where samples need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.core import Budget
from edgewright.errors import UsageError
from edgewright.exits import EarlyExits, ExitCalibration, HeadTraining
from edgewright.pipeline import Recipe, Result
from edgewright.pipeline._exit_choice import ExitChoice, is_faster, time_samples
from edgewright.runtime import Session
from edgewright.task import Task
from edgewright.training import Training

BRIEF = Training(epochs=12, batch_size=32, lr=0.02, optimizer="adamw", compute="cpu")
Timer = Callable[[float, float], None]


@pytest.fixture(autouse=True, scope="module")
def few_runs() -> Iterator[None]:
    """Latencies are measured from a few runs, because nothing here is about them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgewright.pipeline._evaluate._ROUNDS", 5)
        patch.setattr("edgewright.pipeline._evaluate._WARMUP", 1)
        yield


@pytest.fixture(scope="module")
def task() -> Task:
    """Three classes of vectors, told apart by one layer."""
    x = torch.randn(500, 12, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(1)
    return Task((x[:300], y[:300]), (x[300:400], y[300:400]), (x[400:], y[400:]))


@pytest.fixture(scope="module")
def network(task: Task) -> ew.Program:
    torch.manual_seed(0)
    model = nn.Sequential(*[layer for size in (12, 48, 48, 48) for layer in (
        nn.Linear(size, 48), nn.ReLU())], nn.Linear(48, 3))
    return ew.fit(ew.Program.capture(model, task.train.example(2)), task, BRIEF)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timer:
    """Sets what files take with and without exits."""
    def set_times(with_ms: float, without_ms: float) -> None:
        def times(sessions: dict[str, Session], _: object) -> dict[str, np.ndarray]:
            assert list(sessions) == ["with", "without"]
            assert [len(session.model.points) > 0 for session in sessions.values()] == [True, False]
            return {"with": np.full(50, with_ms), "without": np.full(50, without_ms)}

        monkeypatch.setattr("edgewright.pipeline._exit_choice.time_samples", times)
    return set_times


def exits(places: int = 2, drop: float = 0.02, **settings: object) -> EarlyExits:
    return EarlyExits.model_validate({
        "places": places, "training": HeadTraining(settings=BRIEF),
        "calibration": ExitCalibration(max_drop=drop), **settings})


def run(network: ew.Program, task: Task, out: Path, config: EarlyExits,
        budget: Budget | None = None) -> Result:
    return ew.compress(network, task, budget, Recipe(name="own", exits=config), out, quiet=True)


def notes_of(result: Result) -> str:
    return " ".join(note for stage in result.manifest.report.stages for note in stage.notes)


def test_exits_that_pay_are_kept(network: ew.Program, task: Task, timed: Timer,
                                 tmp_path: Path) -> None:
    timed(0.5, 0.8)
    result = run(network, task, tmp_path / "run", exits(cut=None))
    assert result.program.exits == 2
    assert len(result.manifest.model.segments) == 3
    assert "exits kept: a sample takes 0.5 ms with them and 0.8 ms without" in notes_of(result)


def test_exits_that_do_not_pay_are_removed_and_the_decision_stays(
        network: ew.Program, task: Task, timed: Timer, tmp_path: Path) -> None:
    timed(0.795, 0.8)
    result = run(network, task, tmp_path / "run", exits(cut=None))
    assert result.program.exits == 0
    assert result.manifest.model.points == ()
    assert "exits removed again: a sample takes 0.795 ms with them" in notes_of(result)
    x, = task.test.example(20)
    torch.testing.assert_close(result.program.run(x), network.run(x))
    timed(0.1, 0.8)
    again = run(network, task, tmp_path / "run", exits(cut=None))
    assert again.manifest == result.manifest
    assert again.program.exits == 0


def test_exits_are_kept_where_they_are_asked_for(network: ew.Program, task: Task, timed: Timer,
                                                 tmp_path: Path) -> None:
    timed(9.0, 0.1)
    result = run(network, task, tmp_path / "run", exits(keep="if_taken"))
    assert result.program.exits == 2
    assert "exits" not in notes_of(result)


def test_what_no_sample_needs_is_not_shipped(network: ew.Program, task: Task,
                                             tmp_path: Path) -> None:
    whole = run(network, task, tmp_path / "whole", exits(drop=0.1, keep="if_taken"))
    cut = run(network, task, tmp_path / "cut", exits(drop=0.1))
    assert cut.program.exits == 0
    assert len(cut.manifest.model.segments) == 1
    assert "network cut at exit 1: 100.0 % of the validation samples leave there" in notes_of(cut)
    x, = task.test.example(30)
    torch.testing.assert_close(cut.program.run(x), whole.program.run(x)[0])
    session, (inputs,) = ew.load(cut.bundle), (x.numpy(),)
    np.testing.assert_allclose(session(inputs).output, cut.program.run(x), rtol=1e-4, atol=1e-5)
    for cost in ("size_bytes", "macs", "parameters"):
        assert cut.manifest.report.compressed[cost] < whole.manifest.report.compressed[cost]
    again = run(network, task, tmp_path / "cut", exits(drop=0.1))
    assert again.program.state_dict().keys() == cut.program.state_dict().keys()


def test_the_exits_before_a_cut_are_judged_too(network: ew.Program, task: Task, timed: Timer,
                                               tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    timed(0.5, 0.8)
    monkeypatch.setattr("edgewright.pipeline._exit_choice.ExitJudge._find_cut",
                        lambda *_: ExitChoice(cut=2, cut_loss=0.01))
    result = run(network, task, tmp_path / "run", exits(drop=0.05))
    assert result.program.exits == 1
    point = result.manifest.model.points[0]
    assert point.path == (0, 1)
    assert point.calibrated is not None
    assert point.calibrated.shares[0] > 0
    assert "exits kept: a sample takes 0.5 ms" in notes_of(result)


def test_a_cut_that_breaks_a_limit_on_metrics_is_not_made(
        network: ew.Program, task: Task, timed: Timer, tmp_path: Path) -> None:
    timed(0.5, 0.8)
    result = run(network, task, tmp_path / "run", exits(drop=0.1), Budget(accuracy="100 %"))
    assert result.program.exits == 2
    assert "cut" not in notes_of(result)


def test_a_guarantee_is_about_the_whole_network(network: ew.Program, task: Task, timed: Timer,
                                                tmp_path: Path) -> None:
    timed(0.5, 0.8)
    calibration = ExitCalibration(max_drop=0.3, confidence_level=0.8)
    result = run(network, task, tmp_path / "run", exits(calibration=calibration))
    point = result.manifest.model.points[0]
    assert result.program.exits == 2
    assert point.guarantee is not None
    assert point.calibrated is not None
    assert sum(point.calibrated.shares[:-1]) > 0.98


def test_a_recipe_says_where_the_network_ends(network: ew.Program, task: Task, timed: Timer,
                                              tmp_path: Path) -> None:
    timed(0.5, 0.8)
    result = run(network, task, tmp_path / "run", exits(cut=2, drop=0.05))
    assert result.program.exits == 1
    assert "cut the network at exit 2" in notes_of(result)
    assert result.program.costs().macs < network.costs().macs
    recipe = Recipe.load(result.bundle.with_name("recipe.yaml"))
    assert recipe.exits is not None
    assert recipe.exits.cut == 2
    again = ew.compress(network, task, recipe=recipe, out=tmp_path / "again", quiet=True)
    x, = task.test.example(5)
    for one, other in zip(again.program.run(x), result.program.run(x), strict=True):
        torch.testing.assert_close(one, other)


def test_a_cut_needs_no_samples_to_choose_thresholds_on(network: ew.Program, task: Task,
                                                        tmp_path: Path) -> None:
    few = Task(task.train, task.val.select(range(30)), task.test)
    assert run(network, few, tmp_path / "cut", exits(1, cut=1)).program.costs().macs \
        < network.costs().macs
    whole = run(network, few, tmp_path / "whole", exits())
    assert "early exits left out: the val split has 30 samples" in notes_of(whole)


def test_the_order_of_mean_and_noise() -> None:
    random = np.random.default_rng(0)
    times = random.uniform(1, 2, 100)
    assert is_faster(times - 0.1, times)
    assert not is_faster(times, times)
    assert not is_faster(times + 0.1, times)
    assert not is_faster(times - 0.1 + random.normal(0, 3, 100), times)


def test_every_sample_is_timed_in_every_file(network: ew.Program, task: Task,
                                             tmp_path: Path) -> None:
    ew.make_bundle(network, tmp_path / "a.edge")
    session = ew.load(tmp_path / "a.edge")
    found = time_samples({"one": session, "two": session}, task.val)
    assert list(found) == ["one", "two"]
    assert all(times.shape == (100,) and (times > 0).all() for times in found.values())


@pytest.mark.parametrize(("settings", "message"), [
    ({"places": 2, "cut": 3}, "cut=3 is the number of an exit, but there are 2 places"),
    ({"cut": 1}, "cut=1 is the number of an exit, but there are an unknown number of places"),
    ({"places": 2, "cut": 0}, "cut"),
    ({"places": 2, "cut": "last"}, "cut"),
    ({"keep": "always"}, "keep: .*'if_faster' or 'if_taken'"),
    ({"places": 2, "cut": 2, "calibration": ExitCalibration(policy="patience")},
     "patience waits for two exits")])
def test_settings_that_do_not_fit(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=f"EarlyExits: .*{message}"):
        EarlyExits.model_validate(settings)
