"""Facts stay with their calls through copies, new exports, files and splits."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.capture import export_graph, extract_graph
from edgewright.errors import ModelError
from edgewright.exits import EarlyExits, add_exits
from edgewright.graph import finalize_graph, get_fact, set_fact
from edgewright.graph._facts import FactName
from edgewright.program import Program, split_at_exits
from edgewright.task import Task

aten = torch.ops.aten
FACTS: dict[FactName, Any] = {"average_grid": [0.0372931, -11], "bits": 1, "finer_by": 8}


@pytest.fixture
def annotated() -> Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
                          nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    program = Program.capture(model, torch.randn(2, 3, 8, 8))
    for name, value in FACTS.items():
        set_fact(pool_of(program), name, value)
    return program


def pool_of(program: Program) -> Any:
    call, = (node for node in program.graph_module.graph.nodes
             if node.target is aten.avg_pool2d.default)
    return call


def facts_of(program: Program) -> Any:
    return {name: get_fact(pool_of(program), name) for name in FACTS}


def save_and_load(program: Program, folder: Path) -> Any:
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
    "a new export": lambda program: Program(extract_graph(export_graph(
        program.graph_module, program.example_inputs)), program.example_inputs),
    "a trainable module": lambda program: Program(program.module(), program.example_inputs),
    "a module in training mode and back": lambda program: Program(
        program.module().train().eval(), program.example_inputs),
    "captured anew": lambda program: Program.capture(program.module(), program.example_inputs),
}


@pytest.mark.parametrize("way", WAYS)
def test_facts_survive_copies_and_exports(annotated: Program, way: Any) -> None:
    result = WAYS[way](annotated)
    assert facts_of(result) == FACTS
    finalize_graph(result.graph_module)
    assert facts_of(result) == FACTS
    others = [node for node in result.calls() if node is not pool_of(result)]
    assert all(get_fact(node, name) is None for node in others for name in FACTS)


def test_facts_survive_saving_twice(annotated: Program, tmp_path: Path) -> None:
    assert facts_of(save_and_load(save_and_load(annotated, tmp_path), tmp_path)) == FACTS


def rewrite_archive(path: Path, old: Any, new: Any) -> None:
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
def test_a_file_whose_facts_have_an_invalid_structure_is_refused(annotated: Program, tmp_path: Path,
                                                                 content: bytes) -> None:
    call = pool_of(annotated)
    call.meta["custom"] = {"edgewright": {"finer_by": 8}}
    annotated.save(tmp_path / "p.pt2")
    rewrite_archive(tmp_path / "p.pt2", rb'{\"edgewright\": {\"finer_by\": 8}}', content)
    with pytest.raises(ModelError, match=r"p\.pt2 (has invalid|cannot load)|cannot load the program"):
        Program.load(tmp_path / "p.pt2")


def test_a_file_whose_facts_are_lost_is_refused(annotated: Program, tmp_path: Path) -> None:
    """As by a version of torch that drops what it does not know."""
    annotated.save(tmp_path / "p.pt2")
    rewrite_archive(tmp_path / "p.pt2", b"edgewright", b"EDGEWRIGHT")
    with pytest.raises(ModelError, match=r"p\.pt2 should have 3 facts about its calls, but 0"):
        Program.load(tmp_path / "p.pt2")


def test_facts_stay_in_the_segment_of_their_call(annotated: Program) -> None:
    x, y = torch.randn(30, 3, 8, 8), torch.arange(30) % 3
    exits = EarlyExits(places=("avg_pool2d",), training=None)
    first, second = split_at_exits(add_exits(annotated, Task((x, y), test=(x, y)), exits))
    call = next(node for node in first.calls() if node.target is aten.avg_pool2d.default)
    assert {name: get_fact(call, name) for name in FACTS} == FACTS
    assert not any(node.target is aten.avg_pool2d.default for node in second.calls())


def test_capturing_a_model_that_contains_a_quantized_program_is_refused(annotated: Program) -> None:
    message = "^module is a quantized program within another model; capture the model with that"
    with pytest.raises(ModelError, match=message):
        Program.capture(Wrapped(annotated.module()), annotated.example_inputs)


def test_a_fact_is_set_in_its_own_graph_only(annotated: Program) -> None:
    other = annotated.copy()
    set_fact(pool_of(other), "finer_by", 2)
    assert (get_fact(pool_of(annotated), "finer_by"), get_fact(pool_of(other), "finer_by")) == (8, 2)


def test_custom_metadata_of_other_tools_is_kept(annotated: Program) -> None:
    call = pool_of(annotated)
    call.meta["custom"] = {**call.meta["custom"], "mine": "a word"}
    set_fact(call, "finer_by", 4)
    assert call.meta["custom"]["mine"] == "a word"
    assert get_fact(call, "average_grid") == FACTS["average_grid"]


@pytest.mark.parametrize(("name", "value"), [
    ("bits", 2), ("bits", True), ("bits", "1"),
    ("finer_by", 3), ("finer_by", -8), ("finer_by", "8"), ("finer_by", True),
    ("average_grid", [0.0, 3]), ("average_grid", [float("inf"), 3]), ("average_grid", [0.1]),
    ("average_grid", [0.1, 1.5]), ("average_grid", "x"), ("another", 1)])
def test_a_file_with_unknown_or_invalid_facts_is_refused(annotated: Program, tmp_path: Path,
                                                         name: Any, value: Any) -> None:
    set_fact(pool_of(annotated), name, value)
    annotated.save(tmp_path / "p.pt2")
    with pytest.raises(ModelError, match=r"p\.pt2 has invalid facts .* about avg_pool2d; expected "
                                         r"average_grid or bits or finer_by"):
        Program.load(tmp_path / "p.pt2")
