"""Which tensors are held sparse, and that a program never forgets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.errors import ModelError
from edgewright.graph import hold_sparse, sparse_tensors
from edgewright.program import Program


@pytest.fixture
def program() -> Any:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model.get_parameter("0.weight").view(-1)[:12] = 0
        model.get_parameter("2.weight").fill_(1.0)
    found = Program.capture(model, torch.zeros(1, 4))
    hold_sparse(found.graph_module, ["2.weight", "0.weight"])
    return found


def test_names_add_up_and_shares_are_counted(program: Any) -> None:
    hold_sparse(program.graph_module, ["0.weight", "0.bias"])
    assert sparse_tensors(program.graph_module) == ("0.bias", "0.weight", "2.weight")
    assert program.sparsity["0.weight"] == 0.75
    assert program.sparsity["2.weight"] == 0


def test_nothing_is_held_unless_it_was_asked_for() -> None:
    assert Program.capture(nn.Linear(2, 2), torch.zeros(1, 2)).sparsity == {}


def test_a_tensor_that_is_gone_is_not_named(program: Any) -> None:
    hold_sparse(program.graph_module, ["gone"])
    assert "gone" not in program.sparsity


def test_copies_and_files_remember_and_are_independent(program: Any, tmp_path: Path) -> None:
    names = sparse_tensors(program.graph_module)
    program.save(tmp_path / "p.pt2")
    others = [program.copy(), program.with_state(program.state_dict()),
              Program.load(tmp_path / "p.pt2")]
    for other in others:
        assert sparse_tensors(other.graph_module) == names
        assert other.sparsity == program.sparsity
        hold_sparse(other.graph_module, ["0.bias"])
    assert sparse_tensors(program.module().train()) == names
    assert sparse_tensors(program.graph_module) == names


@pytest.mark.parametrize("names", [("gone",), "0.weight"])
def test_a_file_that_names_something_else_is_refused(program: Any, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch,
                                                     names: str | tuple[str, ...]) -> None:
    monkeypatch.setattr("edgewright.program._program.sparse_tensors", lambda module: names)
    program.save(tmp_path / "p.pt2")
    with pytest.raises(ModelError, match=r"says it holds \[.*\] sparse; expected names of its"):
        Program.load(tmp_path / "p.pt2")
