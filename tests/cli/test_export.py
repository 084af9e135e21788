"""``edgewright export`` in this process."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.boards import is_available
from edgewright.cli import main

Cli = Callable[..., tuple[int, str, str]]
MODEL = ("model.py:SmallNet", "--weights", "weights.safetensors")


@pytest.fixture
def cli(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs ``edgewright export`` in the user's folder: exit code, stdout, stderr."""
    monkeypatch.chdir(project)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgewright", "export", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def test_a_model_becomes_an_onnx_file(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli(*MODEL, "--data", "data.py:task", "--to", "onnx", "--out",
                         tmp_path / "net.onnx")
    assert code == 0, err
    assert re.search(r"net\.onnx: [\d.]+ kB, checked against the program", out)
    assert (tmp_path / "net.onnx").is_file()


def test_a_model_becomes_c_in_eight_bits(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli(*MODEL, "--data", "data.py:task", "--bits", "8", "--to", "c", "--out",
                         tmp_path / "net.c")
    assert code == 0, err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.c", "net.h"]
    assert re.search(r"net\.h: [\d.]+ k?M?MACs?|MACs, .* of constants, .* of memory", out)


@pytest.mark.skipif(not is_available(), reason="needs arm-none-eabi-gcc and qemu-system-arm")
def test_boards_run_the_code_and_say_what_it_needs(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli(*MODEL, "--data", "data.py:task", "--bits", "4", "--to", "c", "--out",
                         tmp_path / "net.c", "--board", "cortex-m4", "--board", "cortex-m0",
                         "--samples", "7")
    assert code == 0, err
    for cpu in ("cortex-m4", "cortex-m0"):
        assert re.search(rf"{cpu}\W+7 equal\W", out), out
    assert "instructions are not cycles" in out


@pytest.mark.parametrize(("words", "code", "fault"), [
    (("--to", "tflm"), 2, "unknown --to 'tflm'; expected onnx, litert, executorch, c"),
    (("--to", "onnx", "--board", "cortex-m4"), 2, "--board runs C code, but --to is 'onnx'"),
    (("--to", "c", "--shape", "1,8,8", "--bits", "8"), 2, "give --data"),
    (("--to", "c"), 2, "give its input with either --data or --shape"),
    (("--to", "c", "--shape", "1,8,8"), 5, "not quantized"),
    (("--to", "c", "--data", "data.py:task", "--bits", "8", "--board", "z80"), 2,
     "unknown --board 'z80'"),
    (("--to", "c", "--data", "data.py:task", "--bits", "5"), 2, "weights"),
])
def test_what_does_not_fit_is_refused_in_one_line(words: tuple[str, ...], code: int, fault: str,
                                                  cli: Cli, tmp_path: Path) -> None:
    found, _, err = cli(*MODEL, *words, "--out", tmp_path / "net.c")
    assert found == code
    assert fault in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
