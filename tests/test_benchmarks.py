"""Every benchmark imports and explains itself, whether or not what it compares with is there."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import benchmarks

MODULES = tuple(module.name for module in pkgutil.walk_packages(
    benchmarks.__path__, prefix="benchmarks.") if not module.ispkg)


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_imports_and_answers_help(
        name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    if not hasattr(module, "main"):
        assert module.__doc__
        return
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        module.main()
    assert left.value.code == 0
    assert f"python -m {name}" in capsys.readouterr().out


def test_the_readme_lists_every_program_and_every_result() -> None:
    folder = Path(benchmarks.__path__[0])
    programs = {name for name in MODULES if hasattr(importlib.import_module(name), "main")}
    text = (folder / "README.md").read_text()
    assert {f"benchmarks.{name}" for name in re.findall(r"\? \| `([\w.]+)", text)} == programs
    results = {path.name for path in (folder / "results").iterdir()}
    assert set(re.findall(r"`(\w+\.json)` \|", text)) == results
