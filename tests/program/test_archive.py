"""Saving and loading keeps everything, and no archive can run code.

The attacks edit a good archive; each payload makes a folder that must not come to be.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn

from edgewright.channels import find_groups, remove_channels
from edgewright.errors import ModelError, StorageError
from edgewright.program import Program, fold_batch_norm, set_outputs

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
INPUTS = "data/sample_inputs/model.pt"


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def good(small_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("saved") / "good.pt2"
    small_program.save(path)
    return path


@pytest.fixture
def saved(good: Any, tmp_path: Path) -> Any:
    return Path(shutil.copy(good, tmp_path))


@pytest.fixture
def payload(tmp_path: Path) -> Any:
    """A pickle, in torch's format, that leaves a mark where it is read."""
    buffer = io.BytesIO()
    torch.save((Payload(tmp_path / "ran"),), buffer)
    return buffer.getvalue()


@pytest.fixture
def attack(saved: Any, tmp_path: Path) -> Any:
    """Write a copy of the archive with members changed, added first and added last."""
    def write(changed: Any = None, first: tuple[Any, ...] = (), last: tuple[Any, ...] = ()) -> Any:
        changed = changed or {}
        path = tmp_path / "attack.pt2"
        with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
            for name, content in first:
                target.writestr(f"program/{name}", content)
            for name in source.namelist():
                content = source.read(name)
                change = changed.get(name.removeprefix("program/"))
                target.writestr(name, content if change is None else change(content))
            for name, content in last:
                target.writestr(f"program/{name}", content)
        return path

    return write


def edit_json(change: Any) -> Any:
    """A change of a member's JSON in place, as a change of its bytes."""
    def apply(content: Any) -> Any:
        document = json.loads(content)
        change(document)
        return json.dumps(document)

    return apply


def first_config(document: Any) -> Any:
    return next(iter(document["config"].values()))


def refuse(path: Path, tmp_path: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Program.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("make", [
    lambda program: program, fold_batch_norm,
    lambda program: remove_channels(program, find_groups(program), find_groups(program).groups[0].channels[:2]),
])
def test_outputs_are_bit_identical_after_saving(make: Any, small_program: Program,
                                                tmp_path: Path) -> None:
    program = make(small_program)
    program.save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    for batch in (1, 7):
        x = torch.randn(batch, 3, 8, 8)
        assert torch.equal(loaded.run(x), program.run(x))
    assert loaded.exits == 0
    assert loaded.costs() == program.costs()
    assert set(loaded.state_dict()) == set(program.state_dict())
    torch.testing.assert_close(loaded.example_inputs, program.example_inputs)


def test_a_loaded_program_trains_and_saves_again(saved: Any, small_program: Program,
                                                 tmp_path: Path) -> None:
    loaded = Program.load(saved)
    x = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(loaded.module(train=True)(x), small_program.module(train=True)(x))
    loaded.save(tmp_path / "again.pt2")
    assert torch.equal(Program.load(tmp_path / "again.pt2").run(x), small_program.run(x))


def test_exits_are_counted_in_the_archive(small_program: Program, tmp_path: Path) -> None:
    program = small_program.copy()
    relu, final = (node for node in program.calls() if node.name in ("relu", "linear"))
    set_outputs(program.graph_module, (relu, final))
    program.graph_module.recompile()
    program.exits = 1
    program.save(tmp_path / "p.pt2")
    loaded = Program.load(str(tmp_path / "p.pt2"))
    assert loaded.exits == 1
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(loaded.run(x), program.run(x), rtol=0, atol=0)


def test_nested_inputs_and_outputs_survive(net: type[Net], tmp_path: Path) -> None:
    model = net(lambda m, d: {"sum": d["a"] + d["b"][0], "parts": [d["a"]]})
    program = Program.capture(model, ({"a": torch.zeros(1, 2), "b": (torch.zeros(1, 2),)},))
    program.save(tmp_path / "p.pt2")
    inputs = {"a": torch.randn(3, 2), "b": (torch.randn(3, 2),)}
    torch.testing.assert_close(Program.load(tmp_path / "p.pt2").run(inputs), model(inputs))


def test_no_member_is_marked_as_a_pickle(saved: Any) -> None:
    with zipfile.ZipFile(saved) as archive:
        names = archive.namelist()
        configs = [json.loads(archive.read(f"program/{name}")) for name in (WEIGHTS, CONSTANTS)]
    assert all(not entry["use_pickle"] for config in configs for entry in config["config"].values())
    assert [name for name in names if name.endswith((".pt", ".pkl"))] == [f"program/{INPUTS}"]


def test_saving_leaves_no_temporary_files(good: Any) -> None:
    assert [path.name for path in good.parent.iterdir()] == ["good.pt2"]


def test_the_same_program_gives_the_same_bytes(good: Any, small_program: Program,
                                               tmp_path: Path) -> None:
    small_program.save(tmp_path / "other_name.pt2")
    assert (tmp_path / "other_name.pt2").read_bytes() == good.read_bytes()


def test_a_path_that_cannot_be_written_is_named(small_program: Program, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*nowhere.*choose a file in a writable folder"):
        small_program.save(tmp_path / "nowhere" / "p.pt2")


FULL_DISK = """
import resource, sys, torch
from edgewright import Program
from edgewright.errors import StorageError
program = Program.capture(torch.nn.Linear(64, 64), torch.zeros(1, 64))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    program.save(sys.argv[1])
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_full_disk_is_an_error_and_keeps_the_old_file(saved: Any) -> None:
    """torch's own file writer would end the process with "terminate called", exit code 134."""
    before = saved.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(saved)], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (StorageError.exit_code, "")
    assert re.fullmatch(rf"cannot write {saved}: File too large; free \d+ bytes there or write to "
                        r"another disk\n", done.stdout)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_saving_refuses_what_it_would_not_load(net: type[Net], tmp_path: Path) -> None:
    program = Program.capture(net(lambda m, x: m.a(x), a=nn.Linear(4, 4)), torch.zeros(1, 4))
    call = next(program.calls())
    call.target, call.args = torch.ops.prims.sin.default, call.args[:1]
    program.graph_module.recompile()
    with pytest.raises(ModelError, match=r"refused to save .*p.pt2: .*prims"):
        program.save(tmp_path / "p.pt2")
    assert list(tmp_path.iterdir()) == []


def test_the_attack_payload_works_if_unpickled(payload: Any, tmp_path: Path) -> None:
    torch.load(io.BytesIO(payload), weights_only=False)
    assert (tmp_path / "ran").exists()


def test_an_unchanged_copy_loads(attack: Any, small_program: Program) -> None:
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(Program.load(attack()).run(x), small_program.run(x))


def test_a_pickled_weight_is_refused(attack: Any, payload: Any, tmp_path: Path) -> None:
    path = attack({
        WEIGHTS: edit_json(lambda document: first_config(document).update(use_pickle=True)),
        "data/weights/weight_0": lambda content: payload,
    })
    refuse(path, tmp_path, r"refused to load .*contains a pickled object \('weight_0'\)")


@pytest.mark.parametrize("kind", ["custom_obj_0", "opaque_obj_0", "../custom"])
def test_a_custom_object_is_refused(kind: str, attack: Any, payload: Any, tmp_path: Path) -> None:
    entry = {"path_name": kind, "is_param": False, "use_pickle": False, "tensor_meta": None}
    path = attack({CONSTANTS: edit_json(lambda document: document["config"].update(evil=entry))})
    refuse(path, tmp_path, f"contains a custom object \\('{kind}'\\)")


@pytest.mark.parametrize("target", [
    "torch.load", "os.system", "posix.mkdir", "builtins.eval", "_operator.attrgetter",
    "torch.ops.aten.relu.default; import os", "torch.ops.load_library",
    "torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.ops.mylib.evil.default",
    "torch.ops.aten.from_file.default", "torch.ops.aten.from_file.out",
])
def test_a_foreign_call_is_refused(target: str, attack: Any, tmp_path: Path) -> None:
    def change(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = target

    refuse(attack({MODEL: edit_json(change)}), tmp_path, f"contains a call to '{target}'")


def test_an_unexpected_string_in_a_call_is_refused(attack: Any, tmp_path: Path) -> None:
    def change(document: Any) -> None:
        nodes = document["graph_module"]["graph"]["nodes"]
        node = next(node for node in nodes if "conv" not in node["target"])
        node["inputs"].append({"name": "file", "arg": {"as_string": "pwned.bin"}, "kind": 1})

    refuse(attack({MODEL: edit_json(change)}), tmp_path, "contains a call to 'torch.ops.aten")


@pytest.mark.parametrize("expression", [
    "__import__('os').mkdir('ran')", "s0.__class__", "eval('1')", "[c for c in ()]", "os.getcwd()",
    "Symbol('s0')\nimport os", "lambda: 0", "s0 if Symbol else 1", "\uff45val('1')",
])
def test_an_expression_beyond_arithmetic_is_refused(expression: str, attack: Any,
                                                    tmp_path: Path) -> None:
    def change(document: Any) -> None:
        sizes = document["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = expression

    refuse(attack({MODEL: edit_json(change)}), tmp_path, "contains the expression")


def test_pickled_example_inputs_are_refused(attack: Any, payload: Any, tmp_path: Path) -> None:
    path = attack({INPUTS: lambda content: payload})
    refuse(path, tmp_path, f"{INPUTS} contains a pickled object")


@pytest.mark.parametrize("name", [
    "data/weights/model.pt", "data/constants/model.pt", "data/constants/custom_obj_0",
    "data/aotinductor/model/wrapper.so", "models/other.txt", "models/MODEL.JSON",
    "data/weights/MODEL_weights_config.json", "extra/more.json", "data/sample_inputs/other.pt",
])
def test_a_member_that_no_program_needs_is_refused(name: str, attack: Any, payload: Any,
                                                   tmp_path: Path) -> None:
    path = attack(last=[(name, payload)])
    refuse(path, tmp_path, f"refused to load .*{name} contains content that no program needs")


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_duplicate_member_is_refused(where: str, attack: Any, payload: Any,
                                       tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = attack(**{where: [(INPUTS, payload)]})
    refuse(path, tmp_path, f"{INPUTS} contains content that no program needs")


def test_the_format_of_old_torch_is_refused(payload: Any, tmp_path: Path) -> None:
    path = tmp_path / "old.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_state_dict.pt", payload)
    refuse(path, tmp_path, "version contains content that no program needs")


@pytest.mark.parametrize("context", [
    {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []},
    [{"__enum__": True, "fqn": "antigravity:X", "name": "a"}],
])
def test_a_class_to_import_is_refused(context: dict[str, Any] | list[dict[str, Any]], attack: Any,
                                      tmp_path: Path) -> None:
    def change(document: Any) -> None:
        spec = json.dumps([1, {"type": "x", "context": json.dumps(context), "children_spec": []}])
        signature = document["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = spec.replace("_", "\\u005f")

    refuse(attack({MODEL: edit_json(change)}), tmp_path, "contains the name of a class to import")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refuse(tmp_path / "no.pt2", tmp_path, r"cannot read the program .*no\.pt2.*it is missing")


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps([1, 2])])
def test_a_file_that_is_not_an_archive_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "p.pt2"
    path.write_bytes(content)
    refuse(path, tmp_path, "truncated or not a saved program")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, saved: Any, tmp_path: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[:int(share * len(content))])
    # the last cut leaves the end of an archive within the archive to be found
    refuse(saved, tmp_path, "truncated or not a saved program|content that no program needs")


def test_a_flipped_byte_is_detected(saved: Any, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        offset = archive.getinfo("program/data/weights/weight_0").header_offset
    content[offset + 100] ^= 1  # within the first weight or its header
    saved.write_bytes(content)
    refuse(saved, tmp_path, "cannot read the program")


@pytest.mark.parametrize(("member", "change"), [
    (MODEL, lambda document: document.pop("graph_module")),
    (MODEL, lambda document: document["graph_module"]["graph"].update(nodes=3)),
    (WEIGHTS, lambda document: document["config"].clear()),
    (WEIGHTS, lambda document: first_config(document).update(path_name="weight_99")),
    (WEIGHTS, lambda document: first_config(document).update(tensor_meta=None)),
    (MODEL, lambda document: document["graph_module"]["graph"]["nodes"][0].update(
        target="torch.ops.aten.no_such_operator.default")),
])
def test_a_damaged_archive_is_refused(member: Any, change: Callable[..., Any], attack: Any,
                                      tmp_path: Path) -> None:
    refuse(attack({member: edit_json(change)}), tmp_path, "cannot load the program")


@pytest.mark.parametrize(("content", "version"), [
    ('{"format_version": 1}', "1"), ("{}", "None"), ("[]", r"\[\]"), ("7", "7"),
])
def test_another_format_is_refused(content: str, version: str, attack: Any, tmp_path: Path) -> None:
    path = attack({"extra/edgewright.json": lambda _: content})
    refuse(path, tmp_path, f"is not an Edgewright program of format 3: its format version is {version}")
