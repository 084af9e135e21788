"""A routed model through `compress`: pruned, quantized, and deployed so that one branch runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.routed_models import Conditional, Gated, images
from typer.testing import CliRunner

from edgewright.bundle import read_bundle
from edgewright.cli import app
from edgewright.core import Budget
from edgewright.errors import UsageError
from edgewright.exits import EarlyExits, add_exits
from edgewright.goals import Classification
from edgewright.pipeline import Recipe, Result, combine, make_bundle, verify
from edgewright.pipeline.stages import adjust_recipe
from edgewright.program import Program, count_branch_macs
from edgewright.pruning import ChannelPruning
from edgewright.quantization import PTQ, Quantization
from edgewright.runtime import OnnxEngine, Session, load
from edgewright.search import compress
from edgewright.task import Task
from edgewright.training import Training


def targets(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1)[:, :3].argmax(1)


@pytest.fixture(scope="module")
def task() -> Task:
    x, val, test = images(120, 1), images(40, 2), images(60, 3)
    return Task((x, targets(x)), (val, targets(val)), (test, targets(test)))


@pytest.fixture(scope="module")
def result(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Result:
    recipe = Recipe(prune=ChannelPruning(criterion="taylor", ratio=0.3),
                    recover=Training(epochs=1, lr=0.01), quantize=Quantization(method=PTQ()))
    return compress(Gated().eval(), task, recipe=recipe, out=tmp_path_factory.mktemp("routed"),
                    quiet=True)


class CountedEngine(OnnxEngine):
    """An engine that counts its calls and their samples."""

    made: list[CountedEngine] = []  # noqa: RUF012 - the test resets it

    def __init__(self, model: bytes, threads: int = 1) -> None:
        super().__init__(model, threads)
        self.calls: list[int] = []
        self.made.append(self)

    def run(self, inputs: Any) -> Any:
        self.calls.append(len(inputs[0]))
        return super().run(inputs)


def test_the_branch_not_taken_is_not_run(result: Result) -> None:
    CountedEngine.made = []
    session = Session(read_bundle(result.bundle), engine=CountedEngine)
    x = images(20, 5)
    large = (x.mean((1, 2, 3)) > 0).sum().item()
    session(x.numpy())
    assert [engine.calls for engine in CountedEngine.made] == [[20], [20 - large], [large], [20]]
    one = x[x.mean((1, 2, 3)) > 0][:1]
    session(one.numpy())
    assert [engine.calls[1:] for engine in CountedEngine.made] == [[1], [], [1], [1]]
    assert session.stats().computed == (21, 20 - large, large + 1, 21)


def test_a_batch_gives_what_its_samples_give(result: Result) -> None:
    session, x = load(result.bundle), images(20, 5)
    alone = np.concatenate([session(x[row:row + 1].numpy()).output for row in range(20)])
    assert np.allclose(session(x.numpy()).output, alone, atol=1e-6)


def test_the_branches_are_pruned_and_quantized(result: Result) -> None:
    original = Program.capture(Gated().eval(), images(2))
    (small, large), = count_branch_macs(result.program)
    (_, before), = count_branch_macs(original)
    assert small > 0
    assert large < before
    assert {layer.weight_bits for layer in result.manifest.report.layers} == {8}
    assert result.manifest.report.parity is not None
    assert result.manifest.report.parity.agreement > 0.95


def test_the_manifest_states_shares_and_mean_cost(result: Result, task: Task) -> None:
    manifest = result.manifest
    profile, = manifest.report.routes
    x = images(60, 3)
    share = float((x.mean((1, 2, 3)) > 0).double().mean())
    assert profile.shares == pytest.approx((1 - share, share))
    first, *branches, last = manifest.model.segments
    mean = first.macs + last.macs + sum(
        part * branch.macs for part, branch in zip(profile.shares, branches, strict=True))
    assert manifest.report.compressed["macs"] == pytest.approx(mean)
    assert mean < result.program.costs().longest_path_macs < result.program.costs().macs
    assert verify(result.bundle, task)


def test_the_report_shows_the_branches(result: Result) -> None:
    shown = CliRunner().invoke(app, ["report", str(result.bundle.parent)])
    assert shown.exit_code == 0
    profile, = result.manifest.report.routes
    text = re.sub(r"\s+", " ", shown.output)
    assert "branches" in text
    assert f"{round(60 * profile.shares[1])} of 60 samples" in text
    page = result.report.read_text(encoding="utf-8")
    assert "The model chooses its path for every sample" in page
    assert "Branch 1" in page
    profiled = CliRunner().invoke(app, ["profile", str(result.bundle)])
    assert "MACs in it" in re.sub(r"\s+", " ", profiled.output)


def test_one_decision_per_call_is_measured_sample_by_sample(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Conditional().eval()
    x = 2 * torch.randn(40, 4)
    y = torch.cat([model.reference(row[None]) for row in x]).argmax(1)
    program = Program.capture(model, x[:2])
    manifest = make_bundle(program, tmp_path / "call.edge", Task((x, y), test=(x, y)))
    assert manifest.report.compressed["accuracy"] == 1
    outer, inner = manifest.report.routes
    assert outer.shares[1] == pytest.approx(float((x.sum(1) > 0).double().mean()))
    assert outer.samples == 40
    assert inner.samples == round(40 * outer.shares[1])
    session = load(tmp_path / "call.edge")
    for rows in (x[:3], x[5:6]):
        found = session(rows.numpy())
        assert np.allclose(found.output, model.reference(rows).detach().numpy(), atol=1e-5)
        assert set(found.computed) == {0, len(rows)}


def test_exits_are_left_out_or_refused(task: Task) -> None:
    program = Program.capture(Gated().eval(), images(2))
    recipe = Recipe(exits=EarlyExits(places=1))
    adjusted, notes = adjust_recipe(recipe, program, Budget(), Classification())
    assert adjusted.exits is None
    assert "exits left out: the program chooses its path by the input already" in notes
    with pytest.raises(Exception, match="early exits cannot be added to a program that chooses"):
        add_exits(program, task, EarlyExits(places=1))


def test_routed_bundles_are_not_combined(result: Result, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'a' chooses its path by the input and cannot be in one"):
        combine({"a": result.bundle, "b": result.bundle}, tmp_path / "both.edge")
