"""A directory's files count only as this very run left them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.bundle import read_bundle
from edgewright.errors import StorageError
from edgewright.goals import Classification
from edgewright.pipeline import Result
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, train

COUNT = 900  # of which every third was once looked at


def data(changed: int | None = None) -> Task:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(COUNT, 6, generator=generator), torch.arange(COUNT) % 3
    x[torch.arange(COUNT), y] += 3
    test = x.clone()
    if changed is not None:
        test[changed] *= -1
    return Task((x[:100], y[:100]), (x[100:200], y[100:200]), (test[200:], y[200:]))


def model(nudge: float = 0.0) -> nn.Module:
    net = nn.Linear(6, 3)
    with torch.no_grad():
        net.weight.copy_(torch.eye(3, 6))
        net.bias.zero_()
        net.weight[0, 0] += nudge
    return net


def run(out: Path, task: Task, net: nn.Module | None = None) -> Result:
    return ew.compress(net or model(), task, recipe="fast", out=out, quiet=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("intact") / "run", data()).bundle.parent


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of another model on other data."""
    return run(tmp_path_factory.mktemp("foreign") / "run", data(300), model(0.25)).bundle.parent


def test_one_sample_of_the_test_split_makes_another_run(done: Path) -> None:
    for row in (201, 500, COUNT - 1):
        with pytest.raises(StorageError, match=r"another run \(it differs in: data\)"):
            run(done, data(row))


def test_one_weight_by_one_bit_makes_another_run(done: Path) -> None:
    with pytest.raises(StorageError, match=r"another run \(it differs in: model\)"):
        run(done, data(), model(nudge=2**-23))


@pytest.mark.parametrize("name", ["model.edge", "baseline.edge", "manifest.json", "report.html",
                                  "recipe.yaml"])
def test_changed_results_are_rewritten(
        name: str, done: Path, other: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    foreign = b"" if name == "recipe.yaml" else (other / name).read_bytes()
    (folder / name).write_bytes(foreign)
    again = run(folder, data())
    assert (folder / name).read_bytes() != foreign
    want, have = (read_bundle(place / "model.edge").manifest for place in (done, folder))
    assert [s.sha256 for s in have.model.segments] == [s.sha256 for s in want.model.segments]
    assert again.manifest == have
    assert json.loads((folder / "manifest.json").read_text()) == json.loads(have.model_dump_json())
    (folder / name).unlink()
    run(folder, data())
    assert (folder / name).is_file()


@pytest.mark.parametrize("harm", ["foreign pair", "foreign", "truncated", "missing", "record"])
def test_a_changed_stage_runs_again(harm: str, done: Path, other: Path,
                                                       tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    program, record = (folder / "stages" / f"1-quantize.{end}" for end in ("pt2", "json"))
    if harm.startswith("foreign"):
        shutil.copy(other / "stages" / program.name, program)
    if harm == "foreign pair":
        shutil.copy(other / "stages" / record.name, record)
    if harm == "truncated":
        program.write_bytes(program.read_bytes()[:100])
    if harm == "missing":
        program.unlink()
    if harm == "record":
        record.write_text("{}")
    again = run(folder, data())
    want = ew.Program.load(done / "stages" / program.name).state_dict()
    have = ew.Program.load(program).state_dict()
    assert all(torch.equal(want[name], have[name]) for name in want)
    assert all(torch.equal(want[name], value)
               for name, value in again.program.state_dict().items())


def test_a_rerun_stage_reruns_later_stages(done: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    first = folder / "stages" / "0-capture.pt2"
    first.write_bytes(b"")
    before = (folder / "stages" / "1-quantize.json").read_bytes()
    run(folder, data())
    assert first.stat().st_size
    assert (folder / "stages" / "1-quantize.json").read_bytes() != before


def test_a_checkpoint_of_other_data_is_not_resumed(tmp_path: Path) -> None:
    config = Training(epochs=2, compute="cpu")
    parts = [next(split.batches(10_000)) for split in (data().train, data().val, data().test)]
    train(model(), data(), config, GoalLoss(Classification()), checkpoint=tmp_path / "c")
    x = parts[0].inputs[0].clone()
    x[57, 2] += 1e-4
    other = Task((x, parts[0].targets), (parts[1].inputs[0], parts[1].targets),
                 (parts[2].inputs[0], parts[2].targets))
    record = train(model(), other, config, GoalLoss(Classification()), checkpoint=tmp_path / "c")
    assert any("belongs to a run with other settings, seed, data or weights" in note
               for note in record.notes)
