"""Ctrl-C in a search: the best file so far is published, and the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from edgewright.bundle import read_bundle
from edgewright.core import SearchRecord
from edgewright.pipeline import Recipe
from edgewright.search import read_record

COMMAND = (sys.executable, "-m", "edgewright", "compress", "--model", "model.py:SmallNet",
           "--weights", "weights.safetensors", "--data", "data.py:task", "--budget",
           "size=60%,drop=30%", "--time", "10m", "--out")
PATIENCE_S = 300


def interrupt_at(path: Path, out: Path, project: Path) -> subprocess.CompletedProcess[str]:
    """Run the command, and interrupt it as soon as a path exists."""
    process = subprocess.Popen([*COMMAND, str(out)], cwd=project, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    shown, err = process.communicate()
    return subprocess.CompletedProcess(COMMAND, process.returncode, shown, err)


def test_the_best_file_is_kept_and_the_same_command_goes_on(project: Path,
                                                            tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = interrupt_at(out / "trials" / "00-1", out, project)
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.strip().splitlines()[-1] == (
        "error: interrupted; repeat the command to resume")
    assert f"bundle: {out / 'model.edge'}" in ended.stdout
    assert "Not finished: the search was interrupted" in " ".join(ended.stdout.split())
    steps = [line.split(",")[0] for line in ended.stderr.splitlines()
             if line[:2] in ("1/", "2/", "3/")]
    assert steps[:2] == ["1/5 prepare", "2/5 sensitivities"]
    assert steps[2].startswith("3/5 race: round 1 of ")

    report = read_bundle(out / "model.edge").manifest.report
    assert report.compressed.metric is not None
    assert report.original.metric is not None
    assert (report.compressed.metric.split, report.original.metric.split) == ("val", "val")
    assert "on the validation split only. To go on: edgewright compress" in report.unfinished
    assert report.breaches == report.budget.breaches(report.compressed, report.original)
    assert report.budget.size is not None
    page = (out / "report.html").read_text()
    assert "Not finished." in page
    assert "<h2>Candidates</h2>" in page
    assert Recipe.load(out / "recipe.yaml").name == "quantized"
    record = SearchRecord.model_validate_json((out / "search.json").read_bytes())
    assert (record.chosen, len(record.trials)) == ("quantized", 1)

    measured = (out / "trials" / "quantized" / "trial.edge").stat().st_mtime_ns
    again = interrupt_at(out / "trials" / "01-1", out, project)
    assert again.returncode == 130, again.stderr
    assert (out / "trials" / "quantized" / "trial.edge").stat().st_mtime_ns == measured
    later = read_record(out)
    assert [trial.name for trial in later.trials] == ["quantized", "00-1"]
    within = [trial for trial in later.trials if trial.within_limits] or later.trials
    assert later.chosen == max(within, key=lambda trial: (
        trial.score, -trial.figures["size_bytes"])).name
    assert later.seconds > record.seconds


TWICE = """\
import sys, time
from edgewright._interrupts import insistent_interrupts
from edgewright.search._publish import keep_best

class Slow:
    def publish_interrupted(self, trial):
        print("publishing", flush=True)
        time.sleep(600)

try:
    with insistent_interrupts():
        with keep_best(Slow(), lambda: ["best"]):
            print("searching", flush=True)
            time.sleep(600)
except KeyboardInterrupt as left:
    print(type(left).__name__)
"""


def test_a_second_interrupt_leaves_at_once() -> None:
    process = subprocess.Popen([sys.executable, "-c", TWICE], text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for expected in ("searching", "publishing"):
        assert process.stdout.readline().strip() == expected
        if expected == "publishing":
            time.sleep(2.5)  # the first interrupt is not repeated meanwhile
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=PATIENCE_S)
    assert shown.strip() == "KeyboardInterrupt"
