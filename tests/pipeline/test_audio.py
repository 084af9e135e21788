"""From recordings of tones to a bundle that takes a .wav file."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

import edgewright as ew
from edgewright.cli import main
from edgewright.task import load_model, load_task

EXAMPLE = Path(__file__).parents[2] / "examples" / "jobs" / "spoken_digits.py"


@pytest.fixture(scope="module")
def task() -> ew.Task:
    return load_task(f"{EXAMPLE}:make_task")


@pytest.fixture(scope="module")
def program(task: ew.Task) -> ew.Program:
    torch.manual_seed(0)
    captured = ew.Program.capture(load_model(f"{EXAMPLE}:make_model"), task.train.example(2))
    return ew.fit(captured, task, ew.Training(epochs=6, batch_size=32, lr=0.01, optimizer="adamw"))


@pytest.fixture(scope="module")
def run(program: ew.Program, task: ew.Task,
        tmp_path_factory: pytest.TempPathFactory) -> tuple[ew.Result, ew.Task]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgewright.pipeline._assemble.find_slow_layers", lambda *_: ())
        folder = tmp_path_factory.mktemp("audio") / "run"
        return ew.compress(program, task, recipe="fast", out=folder, quiet=True), task


def test_the_int8_file_hears_as_well_as_the_original(run: tuple[ew.Result, ew.Task]) -> None:
    result, task = run
    report = result.manifest.report
    assert report.original["accuracy"] > 0.9
    assert report.compressed["accuracy"] > report.original["accuracy"] - 0.02
    assert result.manifest.model.preprocessing == task.preprocessing
    assert all(check.holds for check in ew.verify(result.bundle, task))


def test_a_search_finds_a_file_of_half_the_size(program: ew.Program, task: ew.Task,
                                                tmp_path: Path) -> None:
    training = ew.Training(epochs=1, time=60, batch_size=64, lr=0.005)
    search = ew.Search(training=training, quantized_training=training, samples=32, candidates=1)
    result = ew.compress(program, task, ew.Budget(size="50 %"), time=3600, search=search,
                         out=tmp_path / "run", quiet=True)
    report = result.manifest.report
    assert report.breaches == ()
    assert report.compressed["size_bytes"] <= 0.5 * report.original["size_bytes"]
    assert report.compressed["accuracy"] > 0.9
    assert ew.load(result.bundle).model.preprocessing == task.preprocessing


def test_the_bundle_takes_recordings(run: tuple[ew.Result, ew.Task], tmp_path: Path) -> None:
    result, _ = run
    session = ew.load(result.bundle)
    time = np.arange(4000) / 8000
    for digit in (0, 4, 9):
        pitch = 300 * 1.25 ** (digit + 0.2)
        tone = 9000 * np.exp(-((time - 0.25) / 0.05) ** 2) * np.sin(2 * np.pi * pitch * time)
        noisy = tone + np.random.default_rng(digit).normal(0, 300, 4000)
        with wave.open(str(tmp_path / "a.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(noisy.astype("<i2").tobytes())
        assert session.predict(tmp_path / "a.wav").label == str(digit)


def test_the_command_line_takes_a_recording_and_draws_none(
        run: tuple[ew.Result, ew.Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(0).integers(-99, 99, 3000).astype("<i2").tobytes())
    for words, code in (([], 0), (["--draw", str(tmp_path / "a.png")], 2)):
        monkeypatch.setattr(sys, "argv", ["edgewright", "run", str(run[0].bundle), "--input",
                                          str(path), *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert int(end.value.code or 0) == code
    out, err = capsys.readouterr()
    assert "exit 1 of 1" in out
    assert "is a recording" in " ".join(err.split())
