"""`export` to C: two files that any compiler takes, checked by this machine's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import edgewright as ew
from edgewright.errors import MissingToolError, ModelError, ParityError, UsageError
from edgewright.exporters import _export, export
from edgewright.integers.c import find_compiler
from edgewright.program import Program
from edgewright.runtime import CompiledEngine

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")


class Exits(nn.Module):
    """Two linear layers, each with a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.first(x))
        return 9 * self.one(x), 9 * self.two(x)


@pytest.fixture(scope="module")
def quantized() -> Program:
    torch.manual_seed(0)
    x = torch.randn(90, 6)
    program = Program.capture(Exits().eval(), x[:2])
    program = Program(program.graph_module, program.example_inputs, exits=1)
    labels = torch.arange(90) % 3
    task = ew.Task(*(TensorDataset(x[part], labels[part]) for part in (
        slice(0, 60), slice(60, 75), slice(75, 90))))  # type: ignore[arg-type]
    return ew.quantize(program, task, ew.Quantization(target="c"))


def test_two_files_are_written_that_compile_as_they_are(quantized: Program,
                                                        tmp_path: Path) -> None:
    assert export(quantized, "c", tmp_path / "small_net.c") == tmp_path / "small_net.c"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small_net.c", "small_net.h"]
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "small_net.h"\nint main(void) { '
        "uint8_t in[SMALL_NET_INPUT0_SIZE] = {0}; int32_t a[SMALL_NET_OUTPUT0_SIZE], "
        "b[SMALL_NET_OUTPUT1_SIZE]; small_net_run(in, a, b); "
        'printf("%d %d", (int)a[0], (int)b[2]); return 0; }\n')
    subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "main",
                    "main.c", "small_net.c"], cwd=tmp_path, check=True)
    said = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(said.stdout.split()) == 2


def test_with_thresholds_the_function_returns_the_exit(quantized: Program,
                                                       tmp_path: Path) -> None:
    export(quantized, "c", tmp_path / "net.c", thresholds=(0.9,), temperatures=(2.0,))
    header = (tmp_path / "net.h").read_text()
    assert "int32_t net_run(const uint8_t *input0, int32_t *output0);" in header
    assert "NET_OUTPUT1" not in header


def test_arguments_that_do_not_fit_are_refused_and_nothing_is_written(quantized: Program,
                                                                      tmp_path: Path) -> None:
    for arguments, fault in (({"thresholds": (0.9, 0.8)}, "given 2 thresholds and 2 temperatures"),
                             ({"temperatures": (2.0,)}, "temperatures were given without")):
        with pytest.raises(UsageError, match=fault):
            export(quantized, "c", tmp_path / "net.c", **arguments)
    with pytest.raises(UsageError, match="cannot name functions in C"):
        export(quantized, "c", tmp_path / "My Net.c")
    with pytest.raises(ModelError, match="not quantized"):
        export(Program.capture(nn.Linear(4, 2), torch.zeros(2, 4)), "c", tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []


def test_code_that_does_not_match_the_program_is_not_written(
        quantized: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def alter(network: Any) -> CompiledEngine:
        changed = {name: np.roll(array, 1, axis=0) for name, array in network.constants.items()}
        return CompiledEngine(type(network)(network.structure, changed))

    monkeypatch.setattr(_export, "CompiledEngine", alter)
    with pytest.raises(ParityError, match="does not match the program"):
        export(quantized, "c", tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_compiler_is_named_with_the_line_that_installs_it(
        quantized: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(MissingToolError, match="apt-get install gcc"):
        export(quantized, "c", tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []
