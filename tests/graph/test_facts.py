"""Facts stay with their calls: in copies, in new exports, in files, in parts."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.capture import export_graph, graph_of
from edgewright.errors import ModelError
from edgewright.exits import EarlyExits, add_exits
from edgewright.graph import fact_of, note_fact, settle
from edgewright.graph._facts import FactName
from edgewright.program import Program, split_at_exits
from edgewright.task import Task

aten = torch.ops.aten
FACTS: dict[FactName, Any] = {"average_grid": [0.0372931, -11], "finer_by": 8}


@pytest.fixture
def noted() -> Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
                          nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    program = Program.capture(model, torch.randn(2, 3, 8, 8))
    for name, value in FACTS.items():
        note_fact(pool_of(program), name, value)
    return program


def pool_of(program: Program) -> Any:
    call, = (node for node in program.graph_module.graph.nodes
             if node.target is aten.avg_pool2d.default)
    return call


def facts_of(program: Program) -> Any:
    return {name: fact_of(pool_of(program), name) for name in FACTS}


def saved(program: Program, folder: Path) -> Any:
    program.save(folder / "p.pt2")
    return Program.load(folder / "p.pt2")


class Wrapped(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


WAYS = {
    "a copy": lambda program: program.copy(),
    "a copy that shares tensors": lambda program: program.copy(share_tensors=True),
    "other weights": lambda program: program.with_state(program.state_dict()),
    "a deep copy": copy.deepcopy,
    "a new export": lambda program: Program(graph_of(export_graph(
        program.graph_module, program.example_inputs)), program.example_inputs),
    "a trainable module": lambda program: Program(program.module(), program.example_inputs),
    "a module in training mode and back": lambda program: Program(
        program.module().train().eval(), program.example_inputs),
    "captured anew": lambda program: Program.capture(program.module(), program.example_inputs),
}


@pytest.mark.parametrize("way", WAYS)
def test_facts_stay(noted: Program, way: Any) -> None:
    result = WAYS[way](noted)
    assert facts_of(result) == FACTS
    settle(result.graph_module)
    assert facts_of(result) == FACTS
    others = [node for node in result.calls() if node is not pool_of(result)]
    assert all(fact_of(node, name) is None for node in others for name in FACTS)


def test_facts_are_in_files_and_in_files_of_files(noted: Program, tmp_path: Path) -> None:
    assert facts_of(saved(saved(noted, tmp_path), tmp_path)) == FACTS


def rewritten(path: Path, old: Any, new: Any) -> None:
    """The archive with something else in its graph."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name, = (name for name in members if name.endswith("models/model.json"))
    assert old in members[name]
    members[name] = members[name].replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


@pytest.mark.parametrize("content", [rb"[1, 2]", rb"7", rb"{\"edgewright\": [8]}"])
def test_a_file_with_something_else_in_the_place_of_facts_is_refused(noted: Program, tmp_path: Path,
                                                                     content: bytes) -> None:
    call = pool_of(noted)
    call.meta["custom"] = {"edgewright": {"finer_by": 8}}
    noted.save(tmp_path / "p.pt2")
    rewritten(tmp_path / "p.pt2", rb'{\"edgewright\": {\"finer_by\": 8}}', content)
    with pytest.raises(ModelError, match=r"p\.pt2 (notes|cannot load)|cannot load the program"):
        Program.load(tmp_path / "p.pt2")


def test_a_file_whose_facts_are_lost_is_refused(noted: Program, tmp_path: Path) -> None:
    """As by a version of torch that drops what it does not know."""
    noted.save(tmp_path / "p.pt2")
    rewritten(tmp_path / "p.pt2", b"edgewright", b"EDGEWRIGHT")
    with pytest.raises(ModelError, match=r"p\.pt2 says that it notes 2 facts about its calls, and 0"):
        Program.load(tmp_path / "p.pt2")


def test_facts_stay_in_the_segment_of_their_call(noted: Program) -> None:
    x, y = torch.randn(30, 3, 8, 8), torch.arange(30) % 3
    exits = EarlyExits(places=("avg_pool2d",), training=None)
    first, second = split_at_exits(add_exits(noted, Task((x, y), test=(x, y)), exits))
    call = next(node for node in first.calls() if node.target is aten.avg_pool2d.default)
    assert {name: fact_of(call, name) for name in FACTS} == FACTS
    assert not any(node.target is aten.avg_pool2d.default for node in second.calls())


def test_a_part_whose_facts_would_be_lost_is_refused(noted: Program) -> None:
    message = "^module is a quantized program within another model; capture the model with that"
    with pytest.raises(ModelError, match=message):
        Program.capture(Wrapped(noted.module()), noted.example_inputs)


def test_a_fact_is_noted_in_its_own_graph_alone(noted: Program) -> None:
    other = noted.copy()
    note_fact(pool_of(other), "finer_by", 2)
    assert (fact_of(pool_of(noted), "finer_by"), fact_of(pool_of(other), "finer_by")) == (8, 2)


def test_what_others_note_stays_beside(noted: Program) -> None:
    call = pool_of(noted)
    call.meta["custom"] = {**call.meta["custom"], "mine": "a word"}
    note_fact(call, "finer_by", 4)
    assert call.meta["custom"]["mine"] == "a word"
    assert fact_of(call, "average_grid") == FACTS["average_grid"]


@pytest.mark.parametrize(("name", "value"), [
    ("finer_by", 3), ("finer_by", -8), ("finer_by", "8"), ("finer_by", True),
    ("average_grid", [0.0, 3]), ("average_grid", [float("inf"), 3]), ("average_grid", [0.1]),
    ("average_grid", [0.1, 1.5]), ("average_grid", "x"), ("another", 1)])
def test_a_file_with_other_facts_is_refused(noted: Program, tmp_path: Path, name: Any,
                                            value: Any) -> None:
    note_fact(pool_of(noted), name, value)
    noted.save(tmp_path / "p.pt2")
    with pytest.raises(ModelError, match=r"p\.pt2 notes .* about avg_pool2d; expected "
                                         r"average_grid or finer_by"):
        Program.load(tmp_path / "p.pt2")
