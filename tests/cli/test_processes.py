"""Whole processes: killed, interrupted, out of disk; and what running a bundle loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgewright.bundle import read_bundle

RECIPE = """\
name: long
prune: {ratio: 0.3}
recover: {epochs: 12, batch_size: 8, augment: false, lr: 0.01}
quantize: {method: ptq, calibration_samples: 64}
"""
PATIENCE_S = 120


@pytest.fixture(scope="module")
def command(project: Path) -> list[str]:
    (project / "long.yaml").write_text(RECIPE)
    return [sys.executable, "-m", "edgewright", "compress", "--model", "model.py:SmallNet",
            "--weights", "weights.safetensors", "--data", "data.py:task", "--recipe", "long.yaml",
            "--out"]


@pytest.fixture(scope="module")
def whole(command: list[str], project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing has disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = subprocess.run([*command, str(out)], cwd=project, check=False, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return out


def start(command: list[str], out: Path, project: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([*command, str(out)], cwd=project, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_checkpoint(process: subprocess.Popen[str], out: Path) -> None:
    """Until the second stage's training has stored its first epoch."""
    until = time.monotonic() + PATIENCE_S
    while not list(out.glob("checkpoints/recover.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)


def checksums(out: Path) -> list[str]:
    return [segment.sha256 for segment in read_bundle(out / "model.edge").manifest.model.segments]


def test_killed_and_interrupted_runs_go_on_and_end_in_the_same_files(
        command: list[str], whole: Path, project: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = start(command, out, project)
    wait_for_checkpoint(process, out)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "model.edge").exists()

    process = start(command, out, project)
    until = time.monotonic() + PATIENCE_S
    stamp = (out / "checkpoints" / "recover.ckpt").stat().st_mtime_ns
    while (out / "checkpoints" / "recover.ckpt").stat().st_mtime_ns == stamp:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1] == (
        "error: interrupted; repeat the command to resume")
    assert "Traceback" not in err

    resumed = subprocess.run([*command, str(out)], cwd=project, check=False, capture_output=True,
                             text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "already done" in resumed.stderr
    assert checksums(out) == checksums(whole)
    assert not (out / "checkpoints").exists()


def test_samples_of_the_wrong_shape_are_one_line_with_no_log_of_torch(
        command: list[str], project: Path, tmp_path: Path) -> None:
    (project / "tall.py").write_text(
        "import torch\nfrom edgewright import Task\n\n\ndef task():\n"
        "    x, y = torch.randn(40, 1, 5, 8), torch.arange(40) % 4\n"
        "    return Task((x, y), test=(x[:8], y[:8]))\n")
    process = start([*command[:-1], "--data", "tall.py:task", command[-1]], tmp_path / "run",
                    project)
    _, err = process.communicate()
    assert process.returncode == 5
    line, = err.splitlines()
    assert line.startswith("error: SmallNet cannot be captured")


def test_a_full_disk_is_one_line_and_loses_nothing(command: list[str], project: Path,
                                                   tmp_path: Path) -> None:
    out = tmp_path / "run"
    limited = ("import resource, signal, sys\n"
               "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
               "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
               "sys.argv = ['edgewright', *sys.argv[1:]]\n"
               "from edgewright.cli import main\nmain()\n")
    words = [sys.executable, "-c", limited, *command[3:], str(out)]
    done = subprocess.run(words, cwd=project, check=False, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: cannot write")
    assert {p.name for p in out.rglob("*") if p.is_file()} == {"run.json"}
    again = subprocess.run([*command, str(out)], cwd=project, check=False, capture_output=True,
                           text=True)
    assert again.returncode == 0, again.stderr


def test_running_a_bundle_from_the_command_line_never_loads_torch(whole: Path,
                                                                  tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), dtype=np.float32))
    script = ("import sys\n"
              f"sys.argv = ['edgewright', 'run', {str(whole / 'model.edge')!r}, '--input', "
              f"{str(tmp_path / 'x.npy')!r}]\n"
              "from edgewright.cli import main\n"
              "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
              "heavy = {'torch', 'torchao', 'onnx', 'sklearn', 'datasets', 'pyarrow', 'scipy',\n"
              "         'lightning_fabric', 'PIL', 'fastapi', 'httpx'}\n"
              "print('loaded:', sorted(heavy & set(sys.modules)))\n")
    ran = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True,
                         text=True, env={**os.environ, "COLUMNS": "120"})
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "loaded: []"


def test_python_m_edgewright_is_the_command(project: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "edgewright", "--version"], cwd=project,
                          check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "edgewright")
