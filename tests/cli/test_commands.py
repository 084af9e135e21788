"""The commands in this process; whole processes are in test_processes.py."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from edgewright import __version__
from edgewright.bundle import read_bundle, write_bundle
from edgewright.cli import main
from edgewright.core import Measurement
from edgewright.pipeline import combine

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in the user's folder: exit code, stdout, stderr."""
    monkeypatch.chdir(project)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgewright", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


COMPRESS = ("compress", "--model", "model.py:SmallNet", "--weights", "weights.safetensors",
            "--data", "data.py:task", "--recipe", "fast", "--quiet")


@pytest.fixture(scope="module")
def bundle(project: Path) -> Path:
    """A bundle made by the command itself."""
    out = project / "runs" / "whole"
    if not (out / "model.edge").is_file():
        done = subprocess.run([sys.executable, "-m", "edgewright", *COMPRESS, "--out", str(out)],
                              cwd=project, capture_output=True, text=True, check=False,
                              env={**os.environ, "COLUMNS": "200"})
        assert done.returncode == 0, done.stderr
    return out / "model.edge"


def one_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_compress_prints_the_table_and_the_paths(cli: Cli, bundle: Path) -> None:
    code, out, err = cli(*COMPRESS, "--out", "runs/whole")
    assert code == 0
    assert "Accuracy" in out
    assert "Budget met" in out or "No budget" in out
    assert "bundle: runs/whole/model.edge" in out
    assert err == ""


def test_a_broken_budget_exits_3_and_names_the_constraint(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli(*COMPRESS, "--budget", "latency=1ns", "--out", tmp_path / "run")
    assert code == 3
    assert "latency: latency_ms is" in one_line(err)
    assert "expected at most 1e-06" in err
    assert (tmp_path / "run" / "model.edge").is_file()
    assert "bundle:" in out


@pytest.mark.parametrize(("change", "code", "message"), [
    (["--budget", "size=3 parsecs"], 2, "unknown unit 'parsecs' in '3 parsecs' for a size"),
    (["--budget", "speed=3"], 2, "the budget: speed=3: unknown limit"),
    (["--recipe", "slow"], 2, "no recipe is called 'slow'"),
    (["--budget", "size=1B"], 3, "the budget cannot be met: size is limited to 1"),
    (["--weights", "nowhere.safetensors"], 5, "nowhere.safetensors"),
    (["--weights", "broken.safetensors"], 5, "broken.safetensors"),
    (["--weights", "partial.safetensors"], 5, "head.weight"),
    (["--weights", "wide.safetensors"], 5, "(7, 256)"),
    (["--model", "model.py:SmallNets"], 5, "SmallNet"),
    (["--model", "nowhere.py:net"], 5, "nowhere.py"),
    (["--data", "parquet:nowhere"], 5, "nowhere"),
    (["--data", "imagefolder:nowhere"], 5, "nowhere"),
    (["--data", "hub"], 2, "hub"),
    (["--model", "timm:resnet18"], 6, "pip install 'edgewright[timm]'"),
    (["--ignore", "haed", "--recipe", "balanced"], 2, "ignore='haed' matches no layer"),
    (["--normalize", "imagenet"], 2, "normalize='imagenet' cannot be applied"),
])
def test_bad_input_is_one_line_with_its_exit_code(
        cli: Cli, project: Path, tmp_path: Path, change: list[str], code: int,
        message: str) -> None:
    weights = load_file(project / "weights.safetensors")
    (project / "broken.safetensors").write_bytes(b"\x00" * 100)
    save_file({k: v for k, v in weights.items() if not k.startswith("head")},
              project / "partial.safetensors")
    save_file({**weights, "head.weight": torch.zeros(7, 256)}, project / "wide.safetensors")
    if change[1] == "timm:resnet18" and importlib.util.find_spec("timm"):
        pytest.skip("timm is installed, so nothing is missing")
    out = tmp_path / "run"
    found, _, err = cli(*COMPRESS, *change, "--out", out)
    assert found == code, err
    assert message in one_line(err)
    assert not out.exists()


def test_a_directory_with_another_run_is_left_as_it_was(cli: Cli, bundle: Path) -> None:
    before = {p: p.read_bytes() for p in bundle.parent.rglob("*") if p.is_file()}
    code, _, err = cli(*COMPRESS, "--seed", "7", "--out", "runs/whole")
    assert code == 5
    assert "holds another run (it differs in: seed)" in one_line(err)
    assert {p: p.read_bytes() for p in bundle.parent.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(("body", "message"), [
    ("x[3] = float('nan')", "sample 3 of the train split holds NaN or infinity"),
    ("y[5] = 9", "sample 5 of the train split has label 9; allowed: 0..3"),
    ("x, y = x[:0], y[:0]", "the train split"),
    ("raise RuntimeError('the disk is gone')", "the disk is gone"),
])
def test_bad_data_is_named(cli: Cli, tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(
        "import torch\nfrom edgewright import Task\n\n\ndef task():\n"
        "    x, y = torch.randn(40, 1, 8, 8), torch.arange(40) % 4\n"
        f"    {body}\n    good = (torch.randn(8, 1, 8, 8), torch.arange(8) % 4)\n"
        "    return Task((x, y), good, (good[0][1:], good[1][1:]))\n")
    code, _, err = cli(*COMPRESS, "--data", f"{tmp_path}/bad.py:task", "--out", tmp_path / "run")
    assert code == 5, err
    assert message in one_line(err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("recipe", "message"), [
    ("quantize: {weights: 5}", "quantization to 5 bits is not supported; weights and"),
    ("quantize: {layers: {head: {weights: 7}}}", "quantize.layers.head.weights: Input should be 8, 4, 3, 2"),
    ("quantize: {layers: {haed: {weights: 4}}}", "layers='haed' matches no layer; similar names: h"),
    ("quantize: {range_estimator: middle}", "estimator: Input should be 'minmax', 'percentile', "),
    ("quantize: {mixed: {}}", "mixed precision without a limit would give every layer the most"),
    ("quantize: {mixed: {size: 10 B}}", "10 B): the smallest possible is size_bytes"),
    ("quantize: {granularity: per_group}", "rule scheme/group-mode: granularity='per_group', "),
])
def test_a_scheme_that_cannot_be_is_one_line_of_usage(cli: Cli, tmp_path: Path, recipe: str,
                                                      message: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe)
    code, _, err = cli(*COMPRESS, "--recipe", file, "--out", tmp_path / "run")
    assert code == 2, err
    assert message in one_line(err)


@pytest.mark.parametrize(("sample", "message"), [
    ("x * float('nan') if index == 9 else x", "holds NaN or infinity"),
    ("x[:, :7] if index == 9 else x", "do not form a batch: stack expects each tensor to be equal"),
    ("x[:, :7]", "a sample of the val split is float32 (1, 8, 8), but one of the train split is "
                 "float32 (1, 7, 8); a model needs the same shapes and types"),
    ("x.numpy().astype(str)", "samples of the train split do not form a batch"),
])
def test_samples_read_one_by_one_that_do_not_fit_are_named(cli: Cli, tmp_path: Path, sample: str,
                                                           message: str) -> None:
    (tmp_path / "lazy.py").write_text(
        "import torch\nfrom edgewright import Task\n\n\n"
        "class Lazy(torch.utils.data.Dataset):\n"
        "    def __len__(self):\n        return 40\n\n"
        "    def __getitem__(self, index):\n        x = torch.ones(1, 8, 8)\n"
        f"        return {sample}, index % 4\n\n\n"
        "def task():\n    good = (torch.randn(8, 1, 8, 8), torch.arange(8) % 4)\n"
        "    return Task(Lazy(), good, (good[0][1:], good[1][1:]))\n")
    code, _, err = cli(*COMPRESS, "--data", f"{tmp_path}/lazy.py:task", "--out", tmp_path / "run")
    assert code == 5, err
    assert message in one_line(err)


@pytest.mark.parametrize(("tracker", "expected", "message"), [
    ("wandb", 2, "there is no tracker 'wandb'; there are tensorboard, mlflow"),
    ("mlflow", 6, "tracking with mlflow needs an extra that is not installed; run: pip install"),
])
def test_a_tracker_that_is_not_there_is_refused_before_any_work(
        cli: Cli, tmp_path: Path, tracker: str, expected: int, message: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    code, _, err = cli(*COMPRESS, "--out", tmp_path / "run", "--track", tracker)
    assert code == expected
    assert message in one_line(err)
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_captured_names_the_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import torch\n\n\nclass Odd(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x if x.sum() > 0 else -x\n")
    code, _, err = cli("compress", "--model", f"{tmp_path}/odd.py:Odd", "--data", "data.py:task",
                       "--out", tmp_path / "run", "--quiet")
    assert code == 5
    assert "odd.py:6 (return x if x.sum() > 0 else -x)" in " ".join(err.split())


def test_verify_holds(cli: Cli, bundle: Path) -> None:
    code, out, _ = cli("verify", bundle, "--data", "data.py:task")
    assert code == 0
    *checks, parity = out.splitlines()
    assert [line.split()[0] for line in checks] == ["ok"] * 3
    assert parity.startswith("according to the manifest, file and simulation: same top class ")
    assert "steps (mean " in parity


def test_verify_exits_4_and_names_the_figure(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    honest = read_bundle(bundle)
    boast = honest.manifest.with_report(compressed=honest.manifest.report.compressed.with_(
        Measurement(name="accuracy", value=0.5, kind="measured")))
    write_bundle(tmp_path / "boast.edge", boast, honest.segments)
    code, _, err = cli("verify", tmp_path / "boast.edge", "--data", "data.py:task")
    assert code == 4
    assert "accuracy: the manifest says 0.5, measured" in one_line(err)
    assert "(tolerance 0.017)" in err


@pytest.mark.parametrize("harm", ["truncate", "flip", "swap", "missing"])
def test_a_damaged_bundle_exits_5(cli: Cli, bundle: Path, tmp_path: Path, harm: str) -> None:
    data = bytearray(bundle.read_bytes())
    target = tmp_path / "bad.edge"
    if harm == "truncate":
        target.write_bytes(data[: len(data) // 2])
    elif harm == "flip":
        data[len(data) // 3] ^= 0xFF
        target.write_bytes(data)
    elif harm == "swap":
        with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(target, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name == "manifest.json":
                    manifest = json.loads(content)
                    manifest["report"]["seed"] = 99
                    content = json.dumps(manifest).encode()
                new.writestr(name, content)
    image = tmp_path / "x.png"
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(image)
    for words in (["run", target, "--input", image], ["verify", target, "--data", "data.py:task"],
                  ["bench", target], ["profile", target], ["report", target]):
        code, _, err = cli(*words)
        assert code == 5, words
        assert "bad.edge" in one_line(err)


def test_run_takes_a_picture(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    pixels = np.full((8, 8), 40, dtype=np.uint8)
    pixels[4:, :4] = 160
    Image.fromarray(pixels).resize((32, 32)).convert("RGB").save(tmp_path / "x.png")
    code, out, _ = cli("run", bundle, "--input", tmp_path / "x.png", "--top", 2)
    assert code == 0
    first, second, last = out.splitlines()
    assert first.split()[-1] == "sw"
    assert float(first.split("%")[0]) > float(second.split("%")[0])
    assert last.startswith("exit 1 of 1, ")


@pytest.mark.parametrize(("name", "content", "message"), [
    ("none.png", None, "none.png"), ("text.png", b"not a picture", "text.png")])
def test_run_names_a_picture_it_cannot_read(cli: Cli, bundle: Path, tmp_path: Path, name: str,
                                            content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, _, err = cli("run", bundle, "--input", tmp_path / name)
    assert code == 5
    assert message in one_line(err)


def test_run_takes_an_array(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 1, 8, 8), dtype=np.float32))
    code, out, _ = cli("run", bundle, "--input", tmp_path / "x.npy", "--top", 1)
    assert code == 0
    assert len(out.splitlines()) == 4


def test_run_goes_through_the_point_that_is_named(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.edge"
    combine({"whole": bundle, "again": bundle}, both)
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), dtype=np.float32))
    for words, name in (((), "whole"), (("--point", "again"), "again")):
        code, out, _ = cli("run", both, "--input", tmp_path / "x.npy", *words)
        assert code == 0
        assert out.splitlines()[-1].startswith(f"exit 1 of 1 of {name}, ")
    code, _, err = cli("run", both, "--input", tmp_path / "x.npy", "--point", "best")
    assert code == 2
    assert "has no operating point 'best'; it has whole, again" in one_line(err)
    code, out, _ = cli("profile", both)
    assert code == 0
    assert "whole" in out


def test_profile_shows_layers_groups_and_what_stays(cli: Cli) -> None:
    code, out, _ = cli("profile", "model.py:SmallNet", "--shape", "1,8,8")
    assert code == 0
    assert "stem.weight" in out
    assert "groups of channels can be pruned" in out
    assert "not prunable: head.weight (it is an output)" in out


def test_profile_counts_like_the_hand(cli: Cli) -> None:
    _, out, _ = cli("profile", "model.py:SmallNet", "--shape", "1,8,8")
    macs = 64 * 16 * 9 + 64 * 16 * 16 * 9 + 16 * 16 * 16 * 9 + 256 * 4
    assert f"{macs / 1000:.3g} k MACs" in out


@pytest.mark.parametrize(("words", "code", "message"), [
    (["--shape", "1,x"], 2, "--shape '1,x' is not a list of sizes"),
    ([], 2, "give its input with either --data or --shape"),
    (["--shape", "3,8,8"], 5, "SmallNet cannot be captured"),
])
def test_profile_refuses(cli: Cli, words: list[str], code: int, message: str) -> None:
    found, _, err = cli("profile", "model.py:SmallNet", *words)
    assert found == code
    assert message in " ".join(err.split())


def test_a_stored_stage_can_be_profiled_and_compressed_again(cli: Cli, bundle: Path,
                                                             tmp_path: Path) -> None:
    stored = bundle.parent / "stages" / "0-capture.pt2"
    code, out, _ = cli("profile", stored)
    assert code == 0
    assert "stem.weight" in out
    code, out, err = cli("compress", "--model", stored, "--data", "data.py:task", "--recipe",
                         "fast", "--out", tmp_path / "run", "--quiet")
    assert code == 0, err


def test_report_writes_the_page_again(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    code, out, _ = cli("report", bundle.parent, "--out", tmp_path / "page.html")
    assert code == 0
    assert (tmp_path / "page.html").read_bytes() == (bundle.parent / "report.html").read_bytes()
    assert "page.html" in out.replace("\n", "")  # a long path is wrapped


def test_report_of_an_unfinished_run_says_so(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("report", tmp_path)
    assert code == 5
    assert "the run has not finished" in one_line(err)


def test_bench_shows_both(cli: Cli, bundle: Path) -> None:
    code, out, _ = cli("bench", bundle, "--against", bundle.parent / "baseline.edge",
                       "--rounds", 5)
    assert code == 0
    assert "measured" in out
    assert out.count(" ms ") >= 4


def test_doctor_names_what_is_missing(cli: Cli) -> None:
    code, out, _ = cli("doctor")
    assert code == 0
    assert "onnxruntime" in out
    assert "integer kernels" in out
    assert "arm-none-eabi-gcc" in out


@pytest.mark.parametrize("command", ["compress", "profile", "export", "verify", "run", "bench",
                                     "report"])
def test_help_has_an_example(cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = cli(command, "--help")
    assert code == 0
    assert f"edgewright {command}" in out.split("Usage:")[1].split("Example")[1]


def test_no_arguments_is_help_and_an_unknown_option_is_usage(cli: Cli) -> None:
    code, out, err = cli()
    assert "Usage:" in out + err
    assert code in (0, 2)
    code, _, err = cli("run", "x.edge", "--inputs", "y")
    assert code == 2
    assert "--inputs" in err


def test_version(cli: Cli) -> None:
    assert cli("--version") == (0, f"edgewright {__version__}\n", "")


def test_a_recipe_with_several_typos_is_a_line_each(cli: Cli, project: Path) -> None:
    (project / "typos.yaml").write_text("prune:\n  ration: 0.3\nquantize:\n  wieghts: 8\n")
    code, _, err = cli(*COMPRESS[:-2], "typos.yaml", "--out", "typos")
    assert code == 2
    assert err.splitlines() == [
        "error: typos.yaml:2: prune.ration: unknown setting; did you mean ratio?",
        "error: typos.yaml:4: quantize.wieghts: unknown setting; did you mean weights?"]
    assert not (project / "typos").exists()


def test_a_budget_with_several_bad_limits_is_a_line_each(cli: Cli, project: Path) -> None:
    code, _, err = cli(*COMPRESS, "--budget", "size=1kB,latncy=2,size=3kB", "--out", "typos")
    assert code == 2
    assert err.splitlines() == [
        "error: the budget: latncy=2: unknown limit; did you mean latency?",
        "error: the budget: size=3kB: size is limited twice"]
    assert not (project / "typos").exists()
