"""Tensors marked sparse, and that a program keeps the marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.errors import ModelError
from edgewright.graph import mark_sparse, sparse_tensors
from edgewright.program import Program


@pytest.fixture
def program() -> Any:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model.get_parameter("0.weight").view(-1)[:12] = 0
        model.get_parameter("2.weight").fill_(1.0)
    found = Program.capture(model, torch.zeros(1, 4))
    mark_sparse(found.graph_module, ["2.weight", "0.weight"])
    return found


def test_marks_accumulate_and_sparsity_is_measured(program: Any) -> None:
    mark_sparse(program.graph_module, ["0.weight", "0.bias"])
    assert sparse_tensors(program.graph_module) == ("0.bias", "0.weight", "2.weight")
    assert program.sparsity["0.weight"] == 0.75
    assert program.sparsity["2.weight"] == 0


def test_no_tensor_is_marked_by_default() -> None:
    assert Program.capture(nn.Linear(2, 2), torch.zeros(1, 2)).sparsity == {}


def test_a_deleted_tensor_is_not_listed(program: Any) -> None:
    mark_sparse(program.graph_module, ["gone"])
    assert "gone" not in program.sparsity


def test_copies_and_files_keep_independent_marks(program: Any, tmp_path: Path) -> None:
    names = sparse_tensors(program.graph_module)
    program.save(tmp_path / "p.pt2")
    others = [program.copy(), program.with_state(program.state_dict()),
              Program.load(tmp_path / "p.pt2")]
    for other in others:
        assert sparse_tensors(other.graph_module) == names
        assert other.sparsity == program.sparsity
        mark_sparse(other.graph_module, ["0.bias"])
    assert sparse_tensors(program.module().train()) == names
    assert sparse_tensors(program.graph_module) == names


@pytest.mark.parametrize("names", [("gone",), "0.weight"])
def test_a_file_that_marks_unknown_tensors_is_refused(program: Any, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch,
                                                      names: str | tuple[str, ...]) -> None:
    monkeypatch.setattr("edgewright.program._program.sparse_tensors", lambda module: names)
    program.save(tmp_path / "p.pt2")
    with pytest.raises(ModelError, match=r"marks \[.*\] as sparse; expected names of its"):
        Program.load(tmp_path / "p.pt2")
